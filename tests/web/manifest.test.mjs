/** The questions that a manifest answers. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { differences, finalSize, isSilent, latentCounts, modelName, nearestStep, newestStep, picturedSteps, secondsPerStep, sigmas, stepAtSigma, stepFile, stepLayout, textDifference } from "../../web/manifest.mjs";

const step = (index, more = {}) => ({ index, sigma: 1 / index, at: index * 0.5, files: [`${index}.jpg`], ...more });

test("steps without a picture are skipped", () => {
  const manifest = { steps: [step(1), step(2, { files: [] }), step(3), step(4, { files: [] })] };
  assert.deepEqual(picturedSteps(manifest).map(({ index }) => index), [1, 3]);
  assert.equal(newestStep(manifest).index, 3);
  assert.deepEqual([picturedSteps(null), newestStep(null), newestStep({ steps: [] })], [[], null, null]);
});

test("the nearest step is found by index, and by the ratio of sigmas", () => {
  const steps = [step(1, { sigma: 14.6 }), step(5, { sigma: 1 }), step(9, { sigma: 0.03 })];
  assert.equal(nearestStep(steps, 3).index, 5); // the later of two that are equally near
  assert.equal(nearestStep(steps, -8).index, 1);
  assert.equal(nearestStep([], 3), null);
  assert.equal(stepAtSigma(steps, 5).index, 1);
  assert.equal(stepAtSigma(steps, 0.3).index, 5);
  assert.equal(stepAtSigma(steps, 0).index, 9);
  assert.equal(stepAtSigma([step(1, { sigma: null })], 1), null);
});

test("files are in item-major order: one for each item and frame, or one for each item", () => {
  const files = (count) => Array.from({ length: count }, (_, i) => `f${i}`);
  const of = (items, frames, count, more = {}) => [{ picture: { items, frames } }, step(1, { files: files(count), ...more })];
  const cases = [
    [of(1, 1, 1), { items: 1, frames: 1, animated: false }],
    [of(4, 1, 4), { items: 4, frames: 1, animated: false }],
    [of(4, 1, 1), { items: 1, frames: 1, animated: false }], // only the first is available
    [of(1, 16, 16), { items: 1, frames: 16, animated: false }],
    [of(1, 16, 1), { items: 1, frames: 1, animated: true }],
    [of(3, 16, 48), { items: 3, frames: 16, animated: false }],
    [of(3, 16, 3), { items: 3, frames: 1, animated: true }],
    [of(2, 16, 8, { frames: 4 }), { items: 2, frames: 4, animated: false }],
  ];
  for (const [[manifest, step], expected] of cases) assert.deepEqual(stepLayout(manifest, step), expected);
  assert.equal(stepFile(...of(3, 16, 48), 2, 5), "f37");
  assert.equal(stepFile(...of(3, 16, 3), 2, 5), "f2");
  assert.equal(stepFile(...of(1, 1, 1), 3, 0), undefined);
});

test("the size is that of the final image, if it is known", () => {
  assert.deepEqual(finalSize({ picture: { width: 9, height: 6, shown_width: 90, shown_height: 60 } }), { width: 90, height: 60 });
  assert.deepEqual(finalSize({ picture: { width: 9, height: 6, shown_width: 0, shown_height: 0 } }), { width: 9, height: 6 });
  assert.equal(finalSize({ picture: null }), null);
  assert.equal(finalSize(null), null);
});

test("sigmas are the measured ones, else the planned ones", () => {
  assert.deepEqual(sigmas({ sampler: { sigmas: [3, 2, 1, 0] }, steps: [] }, 3), [3, 2, 1]);
  assert.deepEqual(sigmas({ sampler: { sigmas: [3, 2, 1, 0] }, steps: [step(2), step(3, { sigma: null })] }, 3), [3, 0.5, null]);
  assert.deepEqual(sigmas({ sampler: { sigmas: null }, steps: [step(2)] }, 3), [null, 0.5, null]);
  assert.deepEqual(sigmas(null, null), []);
});

test("the time per step is measured over the newest steps", () => {
  const slow = [step(1, { at: 60 }), ...Array.from({ length: 8 }, (_, i) => step(i + 2, { at: 61 + i }))];
  assert.equal(secondsPerStep({ steps: slow }), 1);
  assert.equal(secondsPerStep({ steps: [step(1), step(4, { at: 3.5 })] }), 1);
  assert.equal(secondsPerStep({ steps: [step(1)] }), null);
  assert.equal(secondsPerStep(null), null);
});

test("settings that differ are listed, and an unknown value is not a difference", () => {
  const a = { sampler: { seed: 1, steps: 20, cfg: 4, name: "euler", scheduler: null, prompt: "a red fox in snow" }, space: "flux2" };
  const b = { sampler: { seed: 2, steps: 20, cfg: 1, name: null, scheduler: "normal", prompt: "a red cat in snow" }, space: "flux2" };
  assert.deepEqual(differences(a, b), [
    { name: "seed", a: "1", b: "2" },
    { name: "cfg", a: "4", b: "1" },
    { name: "prompt", a: "… fox …", b: "… cat …" },
  ]);
  assert.deepEqual(differences(a, a), []);
});

test("models are compared by name and hash, LoRAs by name and weight, and none is a difference", () => {
  const lora = (name, weight) => ({ name, weight, hash: null });
  const run = (name, hash, loras, more) => ({ sampler: { model: name && { name, hash }, loras, ...more } });
  const names = (a, b) => differences(a, b).map(({ name }) => name);
  const [plain, fine] = [run("xl/base.safetensors", "blocks:00112233445566778899", []), run("xl/base.safetensors", "blocks:ff112233445566778899", [])];
  assert.deepEqual(differences(plain, fine), [{ name: "model hash", a: "001122334455", b: "ff1122334455" }]);
  assert.deepEqual(names(plain, run("xl/base.safetensors", null, null)), [], "an unknown hash, and no LoRAs");
  assert.deepEqual(names(plain, run("other.safetensors", null, [])), ["model"]);
  assert.deepEqual(names(plain, run(null, null, null)), [], "an unknown model");
  const styled = run("xl/base.safetensors", null, [lora("style/ink.safetensors", 0.8), lora("lcm.safetensors", null)]);
  assert.deepEqual(differences(plain, styled), [{ name: "LoRAs", a: "none", b: "ink×0.8, lcm" }]);
  assert.deepEqual(names(run("a", null, [], { strength: 1, guidance: 3.5 }), run("a", null, [], { strength: 0.6, guidance: 2 })), ["strength", "guidance"]);
  assert.deepEqual([modelName(plain), modelName(run("dir\\a.b.gguf")), modelName(run(null)), modelName(null)], ["base", "a.b", null, null]);
});

test("the difference of two texts omits their common ends", () => {
  assert.deepEqual(textDifference("a fox", "a fox at night, stars"), { a: "… –", b: "… at night, stars" });
  assert.deepEqual(textDifference("fox", "cat"), { a: "fox", b: "cat" });
});

test("a running run is silent after a minute or ten steps without updates, but not if the source reports its end", () => {
  const slow = { steps: [step(1, { at: 0 }), step(2, { at: 30 })] };
  const silent = (passed_s, manifest, more = {}) => isSilent({ state: "running", written: 1000, manifest, ...more }, 1000 + passed_s * 1000);
  assert.deepEqual([59, 61].map((passed) => silent(passed, null)), [false, true]);
  assert.deepEqual([61, 299, 301].map((passed) => silent(passed, slow)), [false, false, true]);
  assert.equal(silent(1e6, null, { state: "finished" }), false);
  assert.equal(silent(1e6, null, { written: null }), false);
  assert.equal(silent(1e6, null, { written: undefined }), false);
});

test("the counts of the sampler's latents come from their shape", () => {
  const counts = (shape) => latentCounts({ sampler: { shape } });
  assert.deepEqual(counts([2, 4, 64, 64]), { items: 2, frames: 1 });
  assert.deepEqual(counts([1, 16, 13, 60, 104]), { items: 1, frames: 13 });
  for (const shape of [[], undefined, [1, 4], [1, null, 8, 8]]) assert.equal(counts(shape), null);
  assert.equal(latentCounts(null), null);
});
