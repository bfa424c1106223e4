/** The words below a picture. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { caption, inPlaceOfPicture, lastNote, maker, shortSigma } from "../../web/caption.mjs";

const run = (state, more = {}) => ({
  state,
  index: 14,
  total: 20,
  manifest: { space: "flux2", decoder: { name: "flux2-conv-small" }, notes: [] },
  ...more,
});

test("a line says the step, its sigma and what made the picture", () => {
  assert.deepEqual(caption(run("running"), { index: 13, sigma: 0.3141 }), {
    step: "step 13 / 20",
    sigma: "σ 0.31",
    maker: "flux2 · conv small",
  });
});

test("a run that was stopped says at which step, whichever picture is the last", () => {
  assert.equal(caption(run("interrupted"), { index: 13, sigma: 1 }).step, "stopped at step 14 / 20");
  assert.equal(caption(run("failed", { index: null }), { index: 13, sigma: 1 }).step, "failed at step 13 / 20");
});

test("what is not known is left out", () => {
  assert.deepEqual(caption(run("running", { index: null, total: null, manifest: null }), null), { step: "", sigma: "", maker: "" });
  assert.equal(caption(run("running", { total: null }), { index: 3, sigma: null }).step, "step 3");
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

test("every state has words for when there is no picture", () => {
  for (const state of ["idle", "running", "finished", "interrupted", "failed"]) assert.match(inPlaceOfPicture(state), /^[A-Z]/);
  assert.equal(inPlaceOfPicture("of a newer kind"), "");
});

test("the note is the last one", () => {
  assert.equal(lastNote({ notes: ["first", "last"] }), "last");
  assert.equal(lastNote({ notes: [] }), "");
  assert.equal(lastNote(null), "");
});
