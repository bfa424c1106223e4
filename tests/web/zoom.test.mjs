/** Zoom and pan. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { clampZoom, columns, FIT, oneToOne, panned, pictureBox, wheelFactor, zoomedAt } from "../../web/zoom.mjs";

const PANE = { width: 300, height: 200 };
const PICTURE = { width: 1024, height: 1024 };
const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-6, `${a} is not ${b}`);

/** The part of the picture at a point of the pane. */
function at(zoom, point) {
  const { left, top, width, height } = pictureBox(zoom, PANE, PICTURE);
  return [(point.x - left) / width, (point.y - top) / height];
}

test("a picture that fits is centered and as large as possible", () => {
  assert.deepEqual(pictureBox(FIT, PANE, PICTURE), { left: 50, top: 0, width: 200, height: 200 });
});

test("the part of the picture under the pointer stays there", () => {
  const point = { x: 140, y: 90 };
  const close = zoomedAt(FIT, PANE, PICTURE, point, 4);
  const closer = zoomedAt(close, PANE, PICTURE, { x: 30, y: 190 }, 1.5);
  at(FIT, point).forEach((value, i) => near(value, at(close, point)[i]));
  at(close, { x: 30, y: 190 }).forEach((value, i) => near(value, at(closer, { x: 30, y: 190 })[i]));
});

test("zooming out completely shows the whole picture", () => {
  const close = zoomedAt(FIT, PANE, PICTURE, { x: 60, y: 10 }, 9);
  assert.deepEqual(zoomedAt(close, PANE, PICTURE, { x: 299, y: 199 }, 0.001), FIT);
});

test("panning moves the picture with the pointer, up to its edge", () => {
  const close = zoomedAt(FIT, PANE, PICTURE, { x: 150, y: 100 }, 4);
  const moved = panned(close, PANE, PICTURE, { x: 10, y: -20 });
  near(pictureBox(moved, PANE, PICTURE).left, pictureBox(close, PANE, PICTURE).left + 10);
  near(pictureBox(moved, PANE, PICTURE).top, pictureBox(close, PANE, PICTURE).top - 20);
  near(pictureBox(panned(close, PANE, PICTURE, { x: 1e6, y: 1e6 }), PANE, PICTURE).left, 0);
});

test("one to one shows a screen pixel per picture pixel, even if that is smaller than the pane", () => {
  near(pictureBox(oneToOne(FIT, PANE, PICTURE, 2), PANE, PICTURE).width, 512);
  near(pictureBox(oneToOne(FIT, PANE, { width: 64, height: 64 }, 1), PANE, { width: 64, height: 64 }).width, 64);
});

test("the zoom is limited to 48 pixels per picture pixel", () => {
  near(pictureBox(clampZoom({ ...FIT, scale: 1e9 }, PANE, PICTURE), PANE, PICTURE).width, 48 * 1024);
});

test("a wheel that counts lines or pages zooms as far, and in and out cancel", () => {
  near(wheelFactor({ deltaY: -100, deltaMode: 0 }) * wheelFactor({ deltaY: 100, deltaMode: 0 }), 1);
  near(wheelFactor({ deltaY: 5, deltaMode: 1 }), wheelFactor({ deltaY: 100, deltaMode: 0 }));
  assert.ok(wheelFactor({ deltaY: -1e9, deltaMode: 0 }) < 2);
});

test("the grid of a batch has the columns that make its pictures largest", () => {
  const square = { width: 1, height: 1 };
  assert.equal(columns(1, PANE, square), 1);
  assert.equal(columns(4, { width: 300, height: 300 }, square), 2);
  assert.equal(columns(4, { width: 800, height: 200 }, square), 4);
  assert.equal(columns(3, { width: 100, height: 300 }, square), 1);
  assert.equal(columns(4, { width: 300, height: 300 }, { width: 16, height: 4 }), 1);
});
