/** How much the picture changed in each step, and where it settled. */

import assert from "node:assert/strict";
import test from "node:test";
import { changeAfter, changes, formatChange, settledLabel, settledStep } from "../../web/change.mjs";
import { readManifest } from "../../web/sanitize.mjs";
import { barLength, changeBars, stepScale } from "../../web/step-strip.mjs";

const manifest = (changes, { state = "finished", show = "denoised", indices = changes.map((_, i) => i + 1) } = {}) =>
  readManifest({ state, steps: changes.map((change, i) => ({ index: indices[i], files: ["a.png"], show, ...(change === null ? {} : { change }) })) });

test("the picture settled at the first step after which all changes together are small", () => {
  assert.equal(settledStep(manifest([null, 0.1, 0.05, 0.012, 0.006, 0.001])), 3);
  assert.equal(settledStep(manifest([null, 0.1, 0.05, 0.012, 0.007, 0.001])), 4); // 2.0 % in total
  assert.equal(settledStep(manifest([null, 0.001, 0.001])), 1);
  assert.equal(settledLabel(manifest([null, 0.1, 0.05, 0.012, 0.006, 0.001])), "settled at step 3");
});

test("small changes in many steps are a large change", () => {
  const slow = manifest([null, ...Array.from({ length: 100 }, () => 0.004)]);
  assert.equal(settledStep(slow), 97);
});

test("with a picture every few steps it is one of these steps", () => {
  assert.equal(settledStep(manifest([null, 0.1, 0.03, 0.01], { indices: [1, 6, 11, 16] })), 11);
});

test("a picture that changed until the end, a run that goes on, and noise did not settle", () => {
  const falling = [null, 0.1, 0.01, 0.001];
  assert.equal(settledStep(manifest([null, 0.1, 0.1, 0.1])), null);
  for (const state of ["running", "interrupted", "failed"]) assert.equal(settledStep(manifest(falling, { state })), null);
  assert.equal(settledStep(manifest(falling, { show: "noisy" })), null);
  assert.equal(settledStep(manifest([null, null, null])), null);
  assert.equal(settledStep(null), null);
  assert.equal(settledLabel(null), "");
});

test("a record from anywhere gives changes from 0 to 1", () => {
  assert.deepEqual(changes(manifest([null, "a", -1, 7, 0.5])), [[4, 1], [5, 0.5]]);
  assert.equal(changeAfter(manifest([null, 0.5, 0.25, 0.125]), 2), 0.375);
});

test("a change is written in percent", () => {
  assert.deepEqual([0.234, 0.0956, 0.012, 0.0004, 0.00003, 0, 1].map(formatChange), ["23 %", "9.6 %", "1.2 %", "0.04 %", "< 0.01 %", "0 %", "100 %"]);
});

test("bars are longer for larger changes, stay in their place, and leave gaps", () => {
  const lengths = [0, 0.001, 0.01, 0.1, 1].map(barLength);
  for (let i = 1; i < lengths.length; i++) assert.ok(lengths[i] > lengths[i - 1]);
  assert.ok(lengths.at(-1) <= 1);
  for (const total of [1, 2, 20, 1000]) {
    const scale = stepScale(340, total);
    const path = changeBars([[total, 0.5]], scale, total);
    const [, x, width] = /^M([\d.]+) 28h([\d.]+)v12\.0h/.exec(path);
    assert.ok(Math.abs(Number(x) + width / 2 - scale.x(total)) < 0.11, path);
    assert.ok(total < 2 || total > 500 || Number(width) < scale.x(2) - scale.x(1));
  }
});
