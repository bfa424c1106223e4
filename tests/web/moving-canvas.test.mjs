/** The viewers know while the user moves the canvas. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { MovingCanvas } from "../../web/moving-canvas.mjs";

/** A canvas with a list of the calls that the viewers got, and a function that draws it at a place. */
function moved() {
  const drawn = [];
  const canvas = { ds: { scale: 1, offset: [0, 0] }, onDrawForeground: (...args) => drawn.push(args) };
  const shown = [];
  const moving = new MovingCanvas((isMoving) => shown.push(isMoving));
  moving.follow(canvas);
  const draw = (scale, ...offset) => (Object.assign(canvas.ds, { scale, offset }), canvas.onDrawForeground("context", "area"));
  return { canvas, drawn, shown, moving, draw };
}

test("a canvas moves until it has been still for a moment", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { shown, moving, draw } = moved();
  draw(1, 0, 0);
  draw(1, 0, 0); // as a run does, which draws its progress
  assert.deepEqual(shown, []);
  for (let x = 1; x <= 5; x++) {
    draw(1, x, 0);
    mock.timers.tick(150);
  }
  assert.deepEqual([shown, moving.isMoving], [[true], true]);
  mock.timers.tick(50);
  assert.deepEqual([shown, moving.isMoving], [[true, false], false]);
  mock.timers.reset();
});

test("a zoom is no move, also in the middle of one", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { shown, draw } = moved();
  draw(1, 0, 0);
  draw(1.1, 5, 5);
  assert.deepEqual(shown, []);
  draw(1.1, 6, 5);
  draw(1.2, 7, 5);
  assert.deepEqual(shown, [true, false]);
  mock.timers.reset();
});

test("the canvas calls what others want to draw on it", () => {
  const { drawn, draw } = moved();
  draw(1, 0, 0);
  assert.deepEqual(drawn, [["context", "area"]]);
});
