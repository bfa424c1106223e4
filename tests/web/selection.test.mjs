/** What is looked at, of runs that are made up. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Sight } from "../../web/selection.mjs";

let runs, view, frames, calm, sight;

function run(id, { steps = 4, items = 1, frames = 1, files = items * frames, picture = { items, frames } } = {}) {
  const name = (index, n) => `${id}${index}${n ? `.${n}` : ""}`;
  const step = (_, i) => ({ index: i + 1, sigma: 2 ** -i, at: i, files: Array.from({ length: files }, (_, n) => name(i + 1, n)) });
  return { id, state: "finished", stale: false, manifest: { picture, steps: Array.from({ length: steps }, step) } };
}

function look(...those) {
  runs = those;
  sight.meet();
}

beforeEach(() => {
  [runs, view, frames, calm] = [[], { follow: true, lock: "step" }, { able: true }, false];
  const source = { runs: () => runs, picture: (id, file, at) => `${file}@${at}` };
  sight = new Sight(source, view, frames, () => calm);
});

test("nothing is looked at while there is no run", () => {
  assert.deepEqual([sight.pair, sight.manifest, sight.slide(), sight.ahead()], [[], null, null, []]);
});

test("a run is looked at where it has come to", () => {
  look(run("a"));
  assert.deepEqual(sight.slide().addresses, ["a4@3"]);
  assert.equal(sight.slide().scene, "a");
});

test("a run that nobody has read the size of is not shown", () => {
  look({ ...run("a", { picture: null }), stale: true });
  assert.equal(sight.slide(), null);
  runs[0].stale = false; // it has none
  assert.deepEqual(sight.slide().addresses, ["a4@3"]);
});

test("of two runs neither is shown without the other", () => {
  look(run("a"), run("b", { steps: 0 }));
  sight.travel.compare(runs, "b");
  assert.equal(sight.pair.length, 2);
  assert.equal(sight.slide(), null);
});

test("two runs are looked at at the same step, or at the same noise", () => {
  const b = run("b", { steps: 8 });
  b.manifest.steps.forEach((step, i) => (step.sigma = 2 ** (-i / 2)));
  look(run("a"), b);
  sight.travel.compare(runs, "b");
  sight.travel.go(3, sight.manifest);
  assert.deepEqual(sight.slide().addresses, ["a3@2", "b3@2"]);
  view.lock = "sigma";
  assert.deepEqual(sight.slide().addresses, ["a3@2", "b5@4"]);
});

test("a batch is looked at as a whole, or one picture of it, as long as there is that one", () => {
  look(run("a", { items: 3 }));
  assert.deepEqual(sight.slide().addresses, ["a4@3", "a4.1@3", "a4.2@3"]);
  sight.travel.item = 1;
  assert.deepEqual(sight.slide().addresses, ["a4.1@3"]);
  look(run("b", { items: 1 }), ...runs);
  assert.deepEqual(sight.slide().addresses, ["b4@3"]);
});

test("the next steps are loaded ahead in the direction of travel, of both runs, but none while the end is followed", () => {
  look(run("a"), run("b", { steps: 2 }));
  assert.deepEqual(sight.ahead(), []);
  sight.travel.compare(runs, "b");
  sight.travel.go(1, sight.manifest);
  sight.travel.go(2, sight.manifest);
  assert.deepEqual(sight.ahead(), ["a3@2", "b2@1", "a4@3", "b2@1"]);
  sight.travel.go(1, sight.manifest);
  assert.deepEqual(sight.ahead(), []);
});

test("the frames of a video in files of their own are all loaded ahead", () => {
  look(run("a", { frames: 3 }));
  sight.travel.frame = 1;
  assert.deepEqual(sight.slide().addresses, ["a4.1@3"]);
  assert.deepEqual(sight.ahead(), ["a4.2@3", "a4@3"]);
  assert.deepEqual(sight.extent, { items: 1, frames: 3, animated: false, apart: false });
});

test("an animated picture plays as a whole, and held it is taken apart where that can be done", () => {
  look(run("a", { frames: 20, files: 1 }));
  sight.travel.frame = 18;
  assert.deepEqual([sight.slide().addresses, sight.extent.animated, sight.ahead()], [["a4@3"], true, []]);
  sight.rolls = false;
  assert.deepEqual([sight.slide().addresses, sight.extent.frames], [["a4@3#frame=18"], 20]);
  assert.deepEqual(sight.ahead(), [19, 0, 1, 2, 3, 4, 5].map((frame) => `a4@3#frame=${frame}`));
  frames.able = false;
  assert.deepEqual([sight.slide().addresses, sight.extent.animated], [["a4@3"], true]);
});

test("who likes no motion sees none until they ask for it", () => {
  calm = true;
  assert.equal(sight.rolling, false);
  sight.rolls = true;
  assert.equal(sight.rolling, true);
});
