/** The figures of a run. */

import assert from "node:assert/strict";
import test from "node:test";
import { figures, stepSeconds } from "../../web/figures.mjs";
import { readManifest } from "../../web/sanitize.mjs";

const run = (facts, steps = [0.5, 1, 1.5, 4, 4.5]) => {
  const manifest = readManifest({
    state: "finished", seconds: 5, space: "sd1", decoder: { name: "sd1-tiny" }, sampler: { steps: steps.length },
    steps: steps.map((at, i) => ({ index: i + 1, at, files: ["a.png"], show: "denoised", decode_ms: [9, 2, 3, 2, 2][i], ...(i ? { change: [0, 0.1, 0.05, 0.01, 0.001][i] } : {}) })),
    ...facts,
  });
  return { state: manifest.state, index: steps.length, total: steps.length, manifest };
};
const texts = (run) => Object.fromEntries(figures(run).map(({ name, text }) => [name, text]));

test("a finished run has its times, the step where it settled, and what its previews cost", () => {
  const cost = { sampler_ms: 12.5, end_ms: 40, memory_mb: 15.6, device: "cuda:0" };
  assert.deepEqual(texts(run({ cost })), {
    Time: "5.0 s",
    "Each step": "1.0 s/step; the slowest took 2.5 s (step 4)",
    Settled: "at step 3; all later steps changed the picture by 1.1 %",
    Previews: "13 ms of the sampler's time (0.25 %), 40 ms at the end, 16 MB on cuda:0",
    Decoder: "sd1 · tiny, 2.0 ms a picture",
  });
});

test("a running run has the time left and the newest change", () => {
  const seen = texts({ ...run({ state: "running" }), total: 9 });
  assert.equal(seen.Time, "4.0 s left of about 9.0 s");
  assert.equal(seen.Newest, "the picture changed by 0.1 %");
  assert.equal(seen.Settled, undefined);
});

test("a picture that changed until the end is reported", () => {
  const steps = [1, 2, 3].map((index) => ({ index, at: index, files: ["a.png"], change: index > 1 ? 0.3 : undefined, show: "denoised" }));
  assert.match(texts(run({ steps })).Settled, /^not before the end/);
});

test("what is unknown is left out", () => {
  assert.deepEqual(texts({ state: "running", index: null, total: null, manifest: null }), {});
  assert.equal(texts(run({ cost: "much" })).Previews, undefined);
  assert.equal(texts(run({ cost: { sampler_ms: 1 } })).Previews, "1.0 ms of the sampler's time");
});

test("over steps that were not recorded, the seconds are the mean", () => {
  const steps = [[1, 1], [5, 3], [6, 3.5]].map(([index, at]) => ({ index, at, files: [] }));
  assert.deepEqual(stepSeconds(readManifest({ steps })), [[5, 0.5], [6, 0.5]]);
});
