/** How true the pictures of a run are: the figure, the curve, and what a record may contain. */

import assert from "node:assert/strict";
import test from "node:test";
import { readManifest } from "../../web/sanitize.mjs";
import { truthLabel, truthPoints, truthText } from "../../web/truth.mjs";

const manifest = (truth) => readManifest({ format: "safelight.run/1", steps: [], truth });

test("the figure has one digit and is empty without the VAE's picture", () => {
  assert.equal(truthLabel(manifest({ psnr_db: 28.36, decoder: "a", to_last_db: [] })), "28.4 dB true");
  assert.equal(truthLabel(manifest({ psnr_db: null, to_last_db: [[1, 20]] })), "");
  assert.equal(truthLabel(manifest(undefined)), "");
  assert.equal(truthLabel(null), "");
  assert.match(truthText(manifest({ psnr_db: 28.36, decoder: "flux2-conv-small" })), /flux2-conv-small.*28\.4 dB/);
});

test("a record from anywhere gives numbers only", () => {
  const truth = manifest({ psnr_db: "much", decoder: 3, to_last_db: [[1, "a"], [-1, 3], [2, 30], "x", null] }).truth;
  assert.deepEqual(truth, { psnr_db: null, decoder: null, to_last_db: [[2, 30]] });
  assert.equal(manifest(7).truth, null);
});

test("the curve rises with the PSNR and stays in its place", () => {
  const points = truthPoints([[1, -5], [2, 10], [3, 40], [4, 100]], (index) => index * 10);
  assert.deepEqual(points.map(({ x }) => x), [10, 20, 30, 40]);
  for (let i = 1; i < points.length; i++) assert.ok(points[i].y < points[i - 1].y);
  assert.ok(points.every(({ y }) => y >= 0 && y <= 28));
});
