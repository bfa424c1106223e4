/** The positions and heights of steps on the strip. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { curve, faultMarks, sigmaHeights, stepScale } from "../../web/step-strip.mjs";

test("the first step is at the left margin, the last at the right, and each position maps back to its step", () => {
  const { x, index } = stepScale(320, 20);
  assert.deepEqual([x(1), x(20)], [10, 310]);
  for (let step = 1; step <= 20; step++) assert.equal(index(x(step) + 3), step);
  assert.deepEqual([index(-50), index(1000)], [1, 20]);
});

test("a single step is in the middle, and a width of 0 gives finite positions", () => {
  assert.equal(stepScale(320, 1).x(1), 160);
  assert.equal(stepScale(320, 1).index(4), 1);
  assert.ok(Number.isFinite(stepScale(0, 20).x(20)));
});

test("the noisiest step is the highest, and an unknown sigma has the height before it", () => {
  assert.deepEqual(sigmaHeights([2, 1, null, 0]), [1, 0.5, 0.5, 0]);
  assert.deepEqual(sigmaHeights([null, null]), [0.5, 0.5]);
  assert.deepEqual(sigmaHeights([0, 0]), [0.5, 0.5]);
  assert.deepEqual(sigmaHeights([]), []);
});

test("the line goes through its points, the area is below it, and no points give no path", () => {
  const points = [{ x: 10, y: 4 }, { x: 20, y: 8 }, { x: 30, y: 12 }];
  assert.equal(curve(points, 2).line, "M10.0 4.0L20.0 8.0");
  assert.equal(curve(points).area, "M10.0 4.0L20.0 8.0L30.0 12.0V28H10.0Z");
  assert.deepEqual(curve(points, 0), { line: "", area: "" });
});

test("each step with NaN latents has a cross at its position", () => {
  const { x } = stepScale(320, 20);
  assert.equal(faultMarks([], x), "");
  assert.equal(faultMarks([1, 20], x), "M7.5 1l5 5m0 -5l-5 5M307.5 1l5 5m0 -5l-5 5");
});
