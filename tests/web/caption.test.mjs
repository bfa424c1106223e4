/** The words of the viewer. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { caption, duration, inPlaceOfPicture, lastNote, maker, nameRun, pace, shortSigma } from "../../web/caption.mjs";

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

test("a line says where the run is, how long it takes and what made the picture", () => {
  assert.deepEqual(caption(run("running"), { index: 13, sigma: 0.3141, decode_ms: 0.42 }, true), {
    step: "step 13 / 20",
    sigma: "σ 0.31",
    time: "5.4 s left",
    maker: "flux2 · conv small",
    rate: "0.9 s/step",
    size: "1024×768",
    decode: "decoded in 0.4 ms",
  });
});

test("when it has ended, the line says how long it took", () => {
  const told = (state) => caption(run("finished", { manifest: manifest({ state }) }), { index: 20 }, true).time;
  assert.deepEqual([told("finished"), told("running")], ["12 s", ""]);
});

test("a run that was stopped says at which step, but a step that is looked at for its own sake is just a step", () => {
  assert.equal(caption(run("interrupted"), { index: 13, sigma: 1 }, true).step, "stopped at step 14 / 20");
  assert.equal(caption(run("failed", { index: null }), { index: 13, sigma: 1 }, true).step, "failed at step 13 / 20");
  assert.equal(caption(run("failed"), { index: 5, sigma: 1 }, false).step, "step 5 / 20");
});

test("what is not known is left out", () => {
  const nothing = Object.values(caption(run("running", { index: null, total: null, manifest: null }), null, true));
  assert.deepEqual(new Set(nothing), new Set([""]));
  assert.equal(caption(run("running", { total: null, manifest: manifest({ sampler: {} }) }), { index: 3, sigma: null }, true).step, "step 3");
});

test("the decoder does without the name of the space", () => {
  const named = (space, name) => maker({ space, decoder: name && { name } });
  assert.equal(named("flux2", "flux2-affine-comfyui"), "flux2 · affine comfyui");
  assert.equal(named("sdxl", "taesdxl"), "sdxl · taesdxl");
  assert.equal(named("flux2", null), "flux2");
  assert.equal(maker(null), "");
});

test("a sigma has as many digits as the eye can use", () => {
  const short = { 0: "0", 0.0292: "0.029", 0.3141: "0.31", 1: "1.00", 14.6146: "14.6", 700.2: "700" };
  for (const [sigma, text] of Object.entries(short)) assert.equal(shortSigma(Number(sigma)), text);
});

test("times are as long as they need to be", () => {
  const said = { 0.44: "0.4 s", 9.94: "9.9 s", 9.96: "10 s", 59.6: "1:00", 185: "3:05", 3729: "1:02:09" };
  for (const [seconds, text] of Object.entries(said)) assert.equal(duration(Number(seconds)), text);
  assert.deepEqual([pace(12.3), pace(0.91), pace(0.032)], ["12 s/step", "0.9 s/step", "31 steps/s"]);
});

test("every state has words for when there is no picture", () => {
  const empty = manifest({ steps: [] });
  for (const state of ["running", "finished", "interrupted", "failed"]) assert.match(inPlaceOfPicture(run(state, { manifest: empty })), /^[A-Z]/);
  assert.match(inPlaceOfPicture(null), /Connect model to a sampler/);
  assert.equal(inPlaceOfPicture(null, "Nothing here"), "Nothing here");
  assert.match(inPlaceOfPicture(run("finished", { gone: true })), /made room/);
  assert.match(inPlaceOfPicture(run("finished", { manifest: null })), /Opening/);
  assert.match(inPlaceOfPicture(run("finished")), /Opening/);
  assert.match(inPlaceOfPicture(run("running")), /Waiting/);
  assert.equal(inPlaceOfPicture(run("of a newer kind", { manifest: empty })), "");
});

test("the note is the last one, or that there is nothing left to see", () => {
  assert.equal(lastNote(run("running", { manifest: manifest({ notes: ["first", "last"] }) })), "last");
  assert.equal(lastNote(run("running")), "");
  assert.equal(lastNote(null), "");
  assert.match(lastNote(run("finished", { gone: true })), /made room/);
});

test("a run that goes on by its own account, and says nothing, is said to be silent", () => {
  const now = new Date(2026, 0, 2, 15, 30).getTime();
  const silent = (minutes, more = {}) => run("running", { written: now - minutes * 60_000, ...more });
  const said = (run) => caption(run, null, true, now).time;
  assert.equal(said(silent(0.5)), "5.4 s left");
  assert.match(said(silent(20)), /^no news since \D*0?3?1?5?:?10/);
  assert.match(said(silent(60 * 24)), /^no news since .*2026/);
  assert.match(nameRun(silent(20), now), /no news since/);
  assert.match(inPlaceOfPicture(silent(20, { index: null, manifest: manifest({ steps: [] }) }), "", now), /no news since/);
  assert.equal(said(run("finished", { written: 0 })), "");
});

test("a run is named by what tells it from others", () => {
  assert.equal(nameRun(run("interrupted")), "20 steps, seed 42, stopped");
  assert.match(nameRun(run("finished", { started: Date.now(), gone: true })), /\d.*, 20 steps, seed 42, pictures gone/);
});
