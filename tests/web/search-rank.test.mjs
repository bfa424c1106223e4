/** The place of the main node in ComfyUI's search. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { rankFirst } from "../../web/search-rank.mjs";

/** As ComfyUI does: an entry of the search, with the scores of a node that is in no table. */
class Entry {
  constructor(definition) {
    Object.assign(this, definition);
  }

  postProcessSearchScores(scores) {
    return [scores[0], -0, ...scores.slice(1)];
  }
}

const order = (a, b) => a.map((score, i) => score - b[i]).find((difference) => difference !== 0) ?? 0;

test("the main node comes before nodes with a shorter id, and after a better match", () => {
  const main = { name: "SafelightPreview" };
  rankFirst(main);
  const ranked = [
    { entry: new Entry({ name: "SafelightFit" }), scores: [1, 0, 12, 0.1] },
    { entry: new Entry({ name: "a node with this name" }), scores: [0, 0, 21, 0.1] },
    { entry: new Entry(main), scores: [1, 0, 16, 0.1] },
  ].sort((a, b) => order(a.entry.postProcessSearchScores(a.scores), b.entry.postProcessSearchScores(b.scores)));
  assert.deepEqual(ranked.map(({ entry }) => entry.name), ["a node with this name", "SafelightPreview", "SafelightFit"]);
});
