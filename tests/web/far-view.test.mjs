/** Viewers on a canvas that is zoomed out. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FarView } from "../../web/far-view.mjs";

function zooming(scale = 1) {
  const seen = { shown: [], calls: 0, ds: { scale, onChanged: () => seen.calls++ } };
  seen.view = new FarView((isFar) => seen.shown.push(isFar));
  seen.view.follow(seen.ds);
  seen.to = (scale) => ((seen.ds.scale = scale), seen.ds.onChanged(scale, [0, 0]));
  return seen;
}

test("at 40 percent and less only the picture is shown, above all comes back", () => {
  const { to, shown, view } = zooming();
  for (const scale of [0.9, 0.41, 0.4, 0.2, 0.404, 0.41, 1]) to(scale);
  assert.deepEqual(shown, [true, false], "each change once");
  assert.equal(view.isFar, false);
});

test("a canvas that is zoomed out already is noticed", () => {
  const { shown, view } = zooming(0.3);
  assert.deepEqual([shown, view.isFar], [[true], true]);
});

test("another listener of the canvas is called too", () => {
  const seen = zooming();
  seen.to(0.5);
  assert.equal(seen.calls, 1);
});
