/** Manifests that nobody of ours wrote. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { caption, maker, nameRun } from "../../web/caption.mjs";
import { differences, extent, fileOf, isSilent, newestStep, pictured, secondsPerStep, shape, sigmas, stepAtSigma } from "../../web/manifest.mjs";
import { asOf, embedded, facts } from "../../web/page.mjs";
import { Polled } from "../../web/polling-source.mjs";
import { heights } from "../../web/step-strip.mjs";
import { MOST_STEPS, readManifest } from "../../web/sanitize.mjs";

const whole = {
  format: "safelight.run/1", id: "a", state: "finished", started: "2026-01-02T03:04:05.000+00:00", seconds: 3, space: "sd1",
  decoder: { name: "d", kind: "conv", scale: 1, source: "s" },
  sampler: { steps: 3, sigmas: [3, 2, 1, 0], seed: 7, cfg: 4.5, name: "euler", scheduler: "normal" },
  picture: { width: 8, height: 8, shown_width: 64, shown_height: 64, items: 1, frames: 1, fps: null },
  steps: [1, 2, 3].map((index) => ({ index, sigma: 1 / index, at: index, files: [`step_000${index}.png`], decode_ms: 1 })),
  notes: ["one"], sheet: "sheet.png", animation: null, page: "index.html",
};

/** Everything that a page asks of a manifest. */
async function look(told) {
  const manifest = readManifest(told);
  if (manifest === null) return;
  const source = embedded(manifest);
  const [run] = source.runs();
  const steps = pictured(manifest);
  for (const step of steps.slice(0, 3)) {
    const { items, frames } = extent(manifest, step);
    assert.ok(items * frames <= Math.max(1, step.files.length));
    fileOf(manifest, step, items - 1, frames - 1);
    caption(run, step, null, 0);
    source.picture(run.id, step.files[0], step.at);
  }
  heights(sigmas(manifest, manifest.sampler.steps));
  for (const ask of [newestStep, shape, secondsPerStep, facts, asOf, maker]) ask(manifest);
  isSilent(run, 0), nameRun(run, 0), stepAtSigma(steps, 1), differences(manifest, readManifest(whole));
  const polled = new Polled(async (path) => ({ ok: true, json: async () => (path === "runs" ? [{ id: "a", version: "1", state: told.state, index: told.steps, total: told.sampler }] : told) }));
  await polled.look();
  await polled.manifest("a"); // an id is the server's own
}

test("the manifest of a run says what it said", () => {
  const read = readManifest(whole);
  assert.deepEqual({ ...read, steps: read.steps.map(({ frames, ...step }) => step) }, whole);
});

test("what is no manifest is none", () => {
  for (const told of [null, undefined, 7, "text", [], true]) assert.equal(readManifest(told), null);
});

test("a run of a billion steps does not fill the memory of a tab", () => {
  for (const steps of [2 ** 32, 1e9, MOST_STEPS + 1, -1, 1.5, "9", [], NaN, Infinity]) {
    assert.equal(readManifest({ ...whole, sampler: { steps } }).sampler.steps, null);
  }
  assert.equal(sigmas(readManifest({ ...whole, sampler: { steps: MOST_STEPS } }), MOST_STEPS).length, MOST_STEPS);
});

test("half a character in the name of a file leaves the other pictures", async () => {
  const told = { ...whole, steps: [{ index: 1, files: ["\ud800.png", "a.png"] }], sheet: "\udfff" };
  assert.deepEqual(readManifest(told).steps[0].files, ["a.png"]);
  assert.equal(readManifest(told).sheet, null);
  await look(told);
});

// Values from a seed: the same ones every time, as many as SAFELIGHT_FUZZ says.
function chances(seed) {
  return () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
}

const ODD = [null, true, "", "</script><script>alert(1)</script>", "\ud800", "../../x.png", "constructor", "__proto__", -1, 0, 1, 1.5, 1e308, 2 ** 53, -0, 1e-320, [], {}, [[]], { toString: 1 }, "x".repeat(5000), ["a.png"], [null]];

function spoiled(value, chance, depth = 0) {
  if (chance() < 0.08) return ODD[Math.floor(chance() * ODD.length)];
  if (depth > 4 || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    const some = value.map((one) => spoiled(one, chance, depth + 1));
    return chance() < 0.1 ? [...some, ...some] : some;
  }
  return Object.fromEntries(Object.entries(value).filter(() => chance() > 0.03).map(([key, one]) => [key, spoiled(one, chance, depth + 1)]));
}

test("no manifest that was tampered with keeps a page from what it can show", async () => {
  const count = Number(process.env.SAFELIGHT_FUZZ ?? 0) || 2000;
  const chance = chances(20261128);
  for (let i = 0; i < count; i++) {
    const told = JSON.parse(JSON.stringify(spoiled(whole, chance)));
    await look(told).catch((error) => assert.fail(`${error.stack} of ${JSON.stringify(told)}`));
  }
});
