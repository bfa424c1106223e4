/** Which pictures of the film strip are in view. */

import assert from "node:assert/strict";
import test from "node:test";
import { visiblePlaces } from "../../web/film-strip.mjs";

test("only the pictures in view and a few beside them are created", () => {
  assert.deepEqual(visiblePlaces(0, 800, 80, 1000), [0, 13]);
  assert.deepEqual(visiblePlaces(40_000, 800, 80, 1000), [497, 513]);
  assert.deepEqual(visiblePlaces(79_200, 800, 80, 1000), [987, 999]);
  assert.deepEqual(visiblePlaces(0, 800, 80, 5), [0, 4]);
});
