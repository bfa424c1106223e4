/** The layout of a grid of tiles, and how keys move in it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { gridLayout, rowsNear, tileAfterKey } from "../../web/virtual-grid.mjs";

test("tiles fill the width, at least one a row", () => {
  for (const [width, columns] of [[1, 1], [116, 1], [237, 1], [238, 2], [264, 2], [784, 6], [1900, 15]]) {
    const layout = gridLayout(width, 100);
    assert.equal(layout.columns, columns, width);
    assert.ok(layout.tile * columns + 6 * (columns - 1) <= Math.max(width, layout.tile), width);
    assert.equal(layout.rows, Math.ceil(100 / columns));
  }
  assert.deepEqual([gridLayout(500, 0).rows, gridLayout(500, 0).height], [0, 0]);
});

test("of 5,000 runs only the rows near the visible part exist", () => {
  const layout = gridLayout(784, 5000);
  for (const top of [0, layout.height / 2, layout.height]) {
    const { first, last } = rowsNear(layout, top, 900);
    assert.ok(first >= 0 && last < layout.rows);
    assert.ok(last - first + 1 <= Math.ceil(900 / layout.row) + 6, String(top));
    assert.ok(first * layout.row <= top);
  }
  assert.ok(rowsNear(gridLayout(784, 0), 0, 900).last < 0);
});

test("keys move to a neighbor, by pages, and to both ends", () => {
  const move = (key, at, count = 10) => tileAfterKey(key, at, count, 4, 2);
  assert.deepEqual(["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"].map((key) => move(key, 5)), [6, 4, 9, 1]);
  assert.deepEqual(["ArrowLeft", "ArrowUp"].map((key) => move(key, 0)), [0, 0]);
  assert.deepEqual(["ArrowRight", "ArrowDown"].map((key) => move(key, 9)), [9, 9]);
  assert.equal(move("ArrowUp", 2), 2, "up from the first row stays");
  assert.equal(move("ArrowDown", 7), 9, "down into a shorter last row goes to its end");
  assert.equal(move("ArrowDown", 8), 8, "down from the last row stays");
  assert.deepEqual([move("Home", 5), move("End", 5), move("PageDown", 1), move("PageUp", 9)], [0, 9, 9, 1]);
  assert.equal(move("x", 5), null);
  assert.equal(move("End", -1, 0), null);
  assert.equal(move("constructor", 5), null);
});
