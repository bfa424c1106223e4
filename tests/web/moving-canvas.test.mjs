/** The viewers move with the canvas, and are where the frontend puts them before and after. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { MovingCanvas } from "../../web/moving-canvas.mjs";

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());

/** A widget with a viewer on a canvas, and functions that draw the canvas at a place. */
function drawnCanvas({ inVue = false, display = "" } = {}) {
  const frame = { matches: (selector) => !inVue && selector === ".dom-widget", style: { display, translate: "" } };
  const marks = new Set();
  const element = { parentElement: frame, toggleAttribute: (name, on) => void (on ? marks.add(name) : marks.delete(name)) };
  const node = { pos: [10, 20], size: [300, 400] };
  const widget = { element, node, y: 30, computedHeight: 200, isVisible: () => !node.collapsed };
  const seen = []; // for each frame: whether the frontend places the widget, and how far we have moved it
  const canvas = {
    graph: "a graph",
    ds: { scale: 1, offset: [0, 0] },
    dirty: 0,
    setDirty: () => canvas.dirty++,
    onDrawForeground: (...args) => seen.push([widget.isVisible(), frame.style.translate, ...args]),
  };
  new MovingCanvas(() => [widget]).follow(canvas);
  const draw = (scale, ...offset) => {
    Object.assign(canvas.ds, { scale, offset });
    canvas.onDrawForeground();
    return seen.at(-1);
  };
  return { canvas, node, widget, marks, seen, draw };
}

test("a viewer moves with the canvas, and the frontend places it when the canvas is still", () => {
  const { canvas, marks, draw } = drawnCanvas();
  draw(0.5, 100, 100);
  assert.deepEqual(draw(0.5, 100, 100), [true, ""], "as a run does, which draws its progress");
  assert.deepEqual(draw(0.5, 110, 100), [false, "0px 0px"], "the frontend places what it takes for hidden once more");
  assert.deepEqual([...marks], ["data-moving"]);
  mock.timers.tick(150);
  assert.deepEqual(draw(0.5, 130, 96), [false, "10px -2px"]);
  mock.timers.tick(150);
  assert.deepEqual(draw(0.5, 130, 96), [false, "10px -2px"], "it may go on");
  assert.equal(canvas.dirty, 0);
  mock.timers.tick(50);
  assert.equal(canvas.dirty, 1, "a frame is drawn in which the frontend places it");
  assert.deepEqual(draw(0.5, 130, 96), [true, ""]);
  assert.equal(marks.size, 0);
});

test("a canvas that moves again before that frame goes on", () => {
  const { draw } = drawnCanvas();
  draw(1, 0, 0);
  draw(1, 5, 0);
  mock.timers.tick(200);
  assert.deepEqual(draw(1, 6, 0), [false, "1px 0px"]);
  assert.deepEqual(draw(1, 6, 0), [false, "1px 0px"]);
});

for (const [what, change] of [
  ["a zoom", ({ canvas }) => (canvas.ds.scale = 1.1)],
  ["another graph", ({ canvas }) => (canvas.graph = "a subgraph")],
  ["a node that is dragged", ({ node }) => (node.pos = [11, 20])],
  ["a node that gets another size", ({ node }) => node.size.splice(0, 1, 310)],
  ["another row above the viewer", ({ widget }) => (widget.y = 50)],
  ["a folded node", ({ node }) => (node.collapsed = true)],
]) {
  test(`${what} leaves the viewer to the frontend`, () => {
    const drawn = drawnCanvas();
    drawn.draw(1, 0, 0);
    assert.deepEqual(drawn.draw(1, 5, 0), [false, "0px 0px"]);
    change(drawn);
    assert.deepEqual(drawn.draw(drawn.canvas.ds.scale, 9, 0), [!drawn.node.collapsed, ""]);
    assert.equal(drawn.marks.size, 0);
  });
}

test("viewers of Vue nodes and those outside of the screen stay as they are", () => {
  for (const options of [{ inVue: true }, { display: "none" }]) {
    const { marks, draw } = drawnCanvas(options);
    draw(1, 0, 0);
    assert.deepEqual(draw(1, 5, 0), [true, ""]);
    assert.equal(marks.size, 0);
  }
});

test("the canvas calls what others want to draw on it", () => {
  const { canvas, seen } = drawnCanvas();
  canvas.onDrawForeground("context", "area");
  assert.deepEqual(seen, [[true, "", "context", "area"]]);
});
