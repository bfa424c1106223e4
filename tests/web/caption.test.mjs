/** The texts of the viewer. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { caption, decoderLabel, formatDuration, formatRate, formatSigma, lastNote, placeholder, runLabel } from "../../web/caption.mjs";

const steps = (count) => Array.from({ length: count }, (_, i) => ({ index: i + 1, at: 0.5 + i * 0.9, files: ["x"], sigma: 1, decode_ms: 0.42 }));
const manifest = (more = {}) => ({
  space: "flux2",
  decoder: { name: "flux2-conv-small" },
  picture: { shown_width: 1024, shown_height: 768 },
  sampler: { steps: 20, seed: 42 },
  seconds: 12.34,
  steps: steps(14),
  notes: [],
  ...more,
});
const run = (state, more = {}) => ({ state, index: 14, total: 20, started: Infinity, gone: false, manifest: manifest(), ...more });

test("a caption shows the step, the time left and the decoder", () => {
  assert.deepEqual(caption(run("running"), { index: 13, sigma: 0.3141, decode_ms: 0.42 }, true), {
    step: "step 13 / 20",
    fault: "",
    sigma: "σ 0.31",
    time: "5.4 s left",
    settled: "",
    files: "",
    decoder: "flux2 · conv small",
    truth: "",
    rate: "0.9 s/step",
    size: "1024×768",
    decode: "decoded in 0.4 ms",
  });
});

test("the caption of an ended run shows how long it took", () => {
  const time = (state) => caption(run("finished", { manifest: manifest({ state }) }), { index: 20 }, true).time;
  assert.deepEqual([time("finished"), time("running")], ["12 s", ""]);
});

test("a stopped run names the step that is its result", () => {
  const kept = manifest({ sampler: { steps: 20, kept_step: 12 } });
  assert.equal(caption(run("stopped", { manifest: kept }), { index: 12, sigma: 1 }, true).step, "kept step 12 / 20");
});

test("a paused run shows that in place of the remaining time", () => {
  const paused = manifest({ state: "running", control: { paused: true, kept: [] } });
  assert.equal(caption(run("running", { manifest: paused }), { index: 12, sigma: 1 }, true).time, "paused");
});

test("a canceled run shows at which step, unless the user has selected a step", () => {
  assert.equal(caption(run("interrupted"), { index: 13, sigma: 1 }, true).step, "canceled at step 14 / 20");
  assert.equal(caption(run("failed", { index: null }), { index: 13, sigma: 1 }, true).step, "failed at step 13 / 20");
  assert.equal(caption(run("failed"), { index: 5, sigma: 1 }, false).step, "step 5 / 20");
});

test("unknown parts are empty", () => {
  const parts = Object.values(caption(run("running", { index: null, total: null, manifest: null }), null, true));
  assert.deepEqual(new Set(parts), new Set([""]));
  assert.equal(caption(run("running", { total: null, manifest: manifest({ sampler: {} }) }), { index: 3, sigma: null }, true).step, "step 3");
});

test("the label of a decoder omits the space from its name", () => {
  const label = (space, name) => decoderLabel({ space, decoder: name && { name } });
  assert.equal(label("flux2", "flux2-affine-comfyui"), "flux2 · affine comfyui");
  assert.equal(label("sdxl", "taesdxl"), "sdxl · taesdxl");
  assert.equal(label("flux2", null), "flux2");
  assert.equal(decoderLabel(null), "");
});

test("a sigma has two or three significant digits", () => {
  const texts = { 0: "0", 0.0292: "0.029", 0.3141: "0.31", 1: "1.00", 14.6146: "14.6", 700.2: "700" };
  for (const [sigma, text] of Object.entries(texts)) assert.equal(formatSigma(Number(sigma)), text);
});

test("durations and rates have no more digits than needed", () => {
  const texts = { 0.44: "0.4 s", 9.94: "9.9 s", 9.96: "10 s", 59.6: "1:00", 185: "3:05", 3729: "1:02:09" };
  for (const [seconds, text] of Object.entries(texts)) assert.equal(formatDuration(Number(seconds)), text);
  assert.deepEqual([formatRate(12.3), formatRate(0.91), formatRate(0.032)], ["12 s/step", "0.9 s/step", "31 steps/s"]);
});

test("every state has a placeholder", () => {
  const empty = manifest({ steps: [] });
  for (const state of ["running", "finished", "interrupted", "failed"]) assert.match(placeholder(run(state, { manifest: empty })), /^[A-Z]/);
  assert.match(placeholder(null), /Connect model to a sampler/);
  assert.equal(placeholder(null, "Nothing here"), "Nothing here");
  assert.match(placeholder(run("finished", { gone: true })), /deleted to make room/);
  assert.match(placeholder(run("finished", { manifest: null })), /Opening the run/);
  assert.match(placeholder(run("finished")), /Opening the run/);
  assert.match(placeholder(run("running")), /Waiting/);
  assert.equal(placeholder(run("of a newer kind", { manifest: empty })), "");
});

test("the note is the last one, or that the pictures are gone", () => {
  assert.equal(lastNote(run("running", { manifest: manifest({ notes: ["first", "last"] }) })), "last");
  assert.equal(lastNote(run("running")), "");
  assert.equal(lastNote(null), "");
  assert.match(lastNote(run("finished", { gone: true })), /deleted to make room/);
});

test("a running run without updates shows the time of its last update", () => {
  const now = new Date(2026, 0, 2, 15, 30).getTime();
  const silent = (minutes, more = {}) => run("running", { written: now - minutes * 60_000, ...more });
  const time = (run) => caption(run, null, true, now).time;
  assert.equal(time(silent(0.5)), "5.4 s left");
  assert.match(time(silent(20)), /^no update since \D*0?3?1?5?:?10/);
  assert.match(time(silent(60 * 24)), /^no update since .*2026/);
  assert.match(runLabel(silent(20), now), /no update since/);
  assert.match(placeholder(silent(20, { index: null, manifest: manifest({ steps: [] }) }), "", now), /no update since/);
  assert.equal(time(run("finished", { written: 0 })), "");
});

test("the label of a run shows its start, settings and state", () => {
  assert.equal(runLabel(run("interrupted")), "20 steps, seed 42, canceled");
  assert.match(runLabel(run("finished", { started: Date.now(), gone: true })), /\d.*, 20 steps, seed 42, pictures deleted/);
});

test("the caption of a step with NaN latents says how much of it is NaN", () => {
  const fault = (not_finite) => caption(run("running"), { index: 3, not_finite }, true).fault;
  assert.deepEqual([0.0004, 0.5, 0.996, 1].map(fault), ["< 1 % NaN", "50 % NaN", "99 % NaN", "100 % NaN"]);
  assert.equal(fault(undefined), "");
});

test("the caption never shows more steps than the total, and the record of an ended run replaces the announced total", () => {
  const text = (state, index, total, recorded) => caption(run(state, { index, total, manifest: manifest({ state, sampler: { steps: recorded }, steps: [] }) }), { index }, true).step;
  assert.equal(text("running", 5, 4, 4), "step 5 / 5");
  assert.equal(text("finished", 7, 20, 7), "step 7 / 7");
  assert.equal(text("running", 7, 20, 7), "step 7 / 20");
});
