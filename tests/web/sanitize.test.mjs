/** Untrusted manifests. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { caption, decoderLabel, runLabel } from "../../web/caption.mjs";
import { differences, finalSize, isSilent, newestStep, picturedSteps, secondsPerStep, sigmas, stepAtSigma, stepFile, stepLayout } from "../../web/manifest.mjs";
import { embeddedSource, runSummary, unfinishedNote } from "../../web/page.mjs";
import { PollingSource } from "../../web/polling-source.mjs";
import { MAX_MANIFEST_STEPS, readManifest } from "../../web/sanitize.mjs";
import { sigmaHeights } from "../../web/step-strip.mjs";

const whole = {
  format: "safelight.run/1", id: "a", state: "finished", started: "2026-01-02T03:04:05.000+00:00", seconds: 3, space: "sd1",
  decoder: { name: "d", kind: "conv", scale: 1, source: "s" },
  sampler: {
    steps: 3, shape: [1, 4, 8, 8], sigmas: [3, 2, 1, 0], seed: 7, cfg: 4.5, name: "euler", scheduler: "normal", strength: 0.5,
    model: { name: "a.safetensors", hash: "blocks:00", weight: null }, loras: [{ name: "b.safetensors", hash: null, weight: 0.8 }],
  },
  picture: { width: 8, height: 8, shown_width: 64, shown_height: 64, items: 1, frames: 1, fps: null },
  steps: [1, 2, 3].map((index) => ({ index, sigma: 1 / index, at: index, files: [`step_000${index}.png`], decode_ms: 1 })),
  notes: ["one"], sheet: "sheet.png", animation: null, page: "index.html",
};

/** Calls everything that a page calls with a manifest. */
async function show(value) {
  const manifest = readManifest(value);
  if (manifest === null) return;
  const source = embeddedSource([manifest]);
  const [run] = source.runs();
  const steps = picturedSteps(manifest);
  for (const step of steps.slice(0, 3)) {
    const { items, frames } = stepLayout(manifest, step);
    assert.ok(items * frames <= Math.max(1, step.files.length));
    stepFile(manifest, step, items - 1, frames - 1);
    caption(run, step, null, 0);
    source.picture(run.id, step.files[0], step.at);
  }
  sigmaHeights(sigmas(manifest, manifest.sampler.steps));
  for (const call of [newestStep, finalSize, secondsPerStep, runSummary, unfinishedNote, decoderLabel]) call(manifest);
  isSilent(run, 0), runLabel(run, 0), stepAtSigma(steps, 1), differences(manifest, readManifest(whole));
  const summary = { id: "a", version: "1", state: value.state, index: value.steps, total: value.sampler };
  const polled = new PollingSource(async (path) => ({ ok: true, json: async () => (path === "runs" ? [summary] : { ...value, format: whole.format }) }));
  await polled.poll();
  await polled.manifest("a"); // the server chooses the id
}

test("offers are names by the text of a note", () => {
  const { offers } = readManifest({ ...whole, offers: { note: "taew2_1", other: 7, more: null } });
  assert.deepEqual(offers, { note: "taew2_1" });
  assert.deepEqual(readManifest({ ...whole, offers: [1] }).offers, {});
});

test("a valid manifest stays the same", () => {
  const read = readManifest(whole);
  assert.deepEqual({ ...read, steps: read.steps.map(({ frames, not_finite, ...step }) => step) }, whole);
});

test("models and LoRAs without a name are left out", () => {
  const read = (sampler) => readManifest({ ...whole, sampler }).sampler;
  for (const model of [null, "a", 7, {}, { name: 7 }, ["a"]]) assert.equal(read({ model }).model, null);
  assert.deepEqual(read({ model: { name: "a", hash: 7, more: 1 } }).model, { name: "a", hash: null, weight: null });
  for (const loras of [null, undefined, {}, "a"]) assert.equal(read({ loras }).loras, null);
  assert.deepEqual(read({ loras: [{ name: "a", weight: "1" }, null, {}, 7] }).loras, [{ name: "a", hash: null, weight: null }]);
});

test("a value that is no object is no manifest", () => {
  for (const value of [null, undefined, 7, "text", [], true]) assert.equal(readManifest(value), null);
});

test("a manifest with a billion steps does not fill the memory", () => {
  for (const steps of [2 ** 32, 1e9, MAX_MANIFEST_STEPS + 1, -1, 1.5, "9", [], NaN, Infinity]) {
    assert.equal(readManifest({ ...whole, sampler: { steps } }).sampler.steps, null);
  }
  assert.equal(sigmas(readManifest({ ...whole, sampler: { steps: MAX_MANIFEST_STEPS } }), MAX_MANIFEST_STEPS).length, MAX_MANIFEST_STEPS);
});

test("a file name with half a surrogate pair is dropped", async () => {
  const value = { ...whole, steps: [{ index: 1, files: ["\ud800.png", "a.png"] }], sheet: "\udfff" };
  assert.deepEqual(readManifest(value).steps[0].files, ["a.png"]);
  assert.equal(readManifest(value).sheet, null);
  await show(value);
});

// Seeded random numbers; the variable SAFELIGHT_FUZZ sets the number of manifests.
function randomNumbers(seed) {
  return () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
}

const ODD = [null, true, "", "</script><script>alert(1)</script>", "\ud800", "../../x.png", "constructor", "__proto__", -1, 0, 1, 1.5, 1e308, 2 ** 53, -0, 1e-320, [], {}, [[]], { toString: 1 }, "x".repeat(5000), ["a.png"], [null]];

function mutated(value, random, depth = 0) {
  if (random() < 0.08) return ODD[Math.floor(random() * ODD.length)];
  if (depth > 4 || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    const items = value.map((item) => mutated(item, random, depth + 1));
    return random() < 0.1 ? [...items, ...items] : items;
  }
  return Object.fromEntries(Object.entries(value).filter(() => random() > 0.03).map(([key, item]) => [key, mutated(item, random, depth + 1)]));
}

test("no mutated manifest raises an error", async () => {
  const count = Number(process.env.SAFELIGHT_FUZZ ?? 0) || 2000;
  const random = randomNumbers(20261128);
  for (let i = 0; i < count; i++) {
    const value = JSON.parse(JSON.stringify(mutated(whole, random)));
    await show(value).catch((error) => assert.fail(`${error.stack} of ${JSON.stringify(value)}`));
  }
});

test("the share of NaN latents is a number up to 1, or absent", () => {
  const read = (not_finite) => readManifest({ ...whole, steps: [{ index: 1, not_finite }] }).steps[0].not_finite;
  assert.deepEqual([0.5, 1, 7].map(read), [0.5, 1, 1]);
  for (const value of [0, -1, "0.5", null, undefined, NaN, Infinity, {}]) assert.equal(read(value), undefined);
});
