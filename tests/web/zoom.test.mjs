/** Zooming and panning, by the point that has to stay where it is. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { columns, FIT, kept, oneToOne, panned, placed, wheelFactor, zoomedAt } from "../../web/zoom.mjs";

const PANE = { width: 300, height: 200 };
const PICTURE = { width: 1024, height: 1024 };
const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-6, `${a} is not ${b}`);

/** Which part of the picture is at a point of the pane. */
function at(zoom, point) {
  const { left, top, width, height } = placed(zoom, PANE, PICTURE);
  return [(point.x - left) / width, (point.y - top) / height];
}

test("what fits is in the middle and as large as can be", () => {
  assert.deepEqual(placed(FIT, PANE, PICTURE), { left: 50, top: 0, width: 200, height: 200 });
});

test("what is under the pointer stays there", () => {
  const point = { x: 140, y: 90 };
  const close = zoomedAt(FIT, PANE, PICTURE, point, 4);
  const closer = zoomedAt(close, PANE, PICTURE, { x: 30, y: 190 }, 1.5);
  at(FIT, point).forEach((value, i) => near(value, at(close, point)[i]));
  at(close, { x: 30, y: 190 }).forEach((value, i) => near(value, at(closer, { x: 30, y: 190 })[i]));
});

test("all the way out is the whole picture again", () => {
  const close = zoomedAt(FIT, PANE, PICTURE, { x: 60, y: 10 }, 9);
  assert.deepEqual(zoomedAt(close, PANE, PICTURE, { x: 299, y: 199 }, 0.001), FIT);
});

test("dragging moves the picture with the pointer, up to its edge", () => {
  const close = zoomedAt(FIT, PANE, PICTURE, { x: 150, y: 100 }, 4);
  const moved = panned(close, PANE, PICTURE, { x: 10, y: -20 });
  near(placed(moved, PANE, PICTURE).left, placed(close, PANE, PICTURE).left + 10);
  near(placed(moved, PANE, PICTURE).top, placed(close, PANE, PICTURE).top - 20);
  near(placed(panned(close, PANE, PICTURE, { x: 1e6, y: 1e6 }), PANE, PICTURE).left, 0);
});

test("one to one is a pixel for a pixel of the screen, also where that is smaller than the pane", () => {
  near(placed(oneToOne(FIT, PANE, PICTURE, 2), PANE, PICTURE).width, 512);
  near(placed(oneToOne(FIT, PANE, { width: 64, height: 64 }, 1), PANE, { width: 64, height: 64 }).width, 64);
});

test("nobody gets closer than can be of use", () => {
  near(placed(kept({ ...FIT, scale: 1e9 }, PANE, PICTURE), PANE, PICTURE).width, 48 * 1024);
});

test("a wheel that counts in lines or pages turns as far, and in and out cancel", () => {
  near(wheelFactor({ deltaY: -100, deltaMode: 0 }) * wheelFactor({ deltaY: 100, deltaMode: 0 }), 1);
  near(wheelFactor({ deltaY: 5, deltaMode: 1 }), wheelFactor({ deltaY: 100, deltaMode: 0 }));
  assert.ok(wheelFactor({ deltaY: -1e9, deltaMode: 0 }) < 2);
});

test("a batch is laid out so that its pictures are largest", () => {
  const square = { width: 1, height: 1 };
  assert.equal(columns(1, PANE, square), 1);
  assert.equal(columns(4, { width: 300, height: 300 }, square), 2);
  assert.equal(columns(4, { width: 800, height: 200 }, square), 4);
  assert.equal(columns(3, { width: 100, height: 300 }, square), 1);
  assert.equal(columns(4, { width: 300, height: 300 }, { width: 16, height: 4 }), 1);
});
