/** The pictures of a selection. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { ViewSelection } from "../../web/selection.mjs";

let runs, view, frames, reducedMotion, selection, source;

function run(id, { steps = 4, items = 1, frames = 1, files = items * frames, picture = { items, frames } } = {}) {
  const name = (index, n) => `${id}${index}${n ? `.${n}` : ""}`;
  const step = (_, i) => ({ index: i + 1, sigma: 2 ** -i, at: i, files: Array.from({ length: files }, (_, n) => name(i + 1, n)) });
  return { id, state: "finished", stale: false, manifest: { picture, steps: Array.from({ length: steps }, step) } };
}

function listRuns(...listed) {
  runs = listed;
  selection.update();
}

beforeEach(() => {
  [runs, view, frames, reducedMotion] = [[], { follow: true, lock: "step" }, { supported: true }, false];
  source = { runs: () => runs, picture: (id, file, at) => `${file}@${at}` };
  selection = new ViewSelection(source, view, frames, () => reducedMotion);
});

test("without a run the selection is empty", () => {
  assert.deepEqual([selection.pair, selection.manifest, selection.images(), selection.upcoming()], [[], null, null, []]);
});

test("a run is shown at its newest step", () => {
  listRuns(run("a"));
  assert.deepEqual(selection.images().addresses, ["a4@3"]);
  assert.equal(selection.images().key, "a");
});

test("a picture has an address to save it from, if the source gives one", () => {
  listRuns(run("a", { frames: 3, files: 1 }));
  assert.deepEqual(selection.images().panes[0].exports, []);
  source.exported = (id, file, frame) => `${id}/${file}/${frame}`;
  assert.deepEqual(selection.images().panes[0].exports, ["a/a4/null"]);
  selection.playFrames = false;
  assert.deepEqual(selection.images(2).panes[0].exports, ["a/a4/2"]);
});

test("a run is not shown before the size of its pictures is known", () => {
  listRuns({ ...run("a", { picture: null }), stale: true });
  assert.equal(selection.images(), null);
  runs[0].stale = false; // its manifest is read, and has no size
  assert.deepEqual(selection.images().addresses, ["a4@3"]);
});

test("two compared runs are shown only together", () => {
  listRuns(run("a"), run("b", { steps: 0 }));
  selection.navigation.compare(runs, "b");
  assert.equal(selection.pair.length, 2);
  assert.equal(selection.images(), null);
});

test("two runs are shown at the same step or at the same noise level", () => {
  const b = run("b", { steps: 8 });
  b.manifest.steps.forEach((step, i) => (step.sigma = 2 ** (-i / 2)));
  listRuns(run("a"), b);
  selection.navigation.compare(runs, "b");
  selection.navigation.goTo(3, selection.manifest);
  assert.deepEqual(selection.images().addresses, ["a3@2", "b3@2"]);
  view.lock = "sigma";
  assert.deepEqual(selection.images().addresses, ["a3@2", "b5@4"]);
});

test("a batch is shown whole, or its selected item if the run has it", () => {
  listRuns(run("a", { items: 3 }));
  assert.deepEqual(selection.images().addresses, ["a4@3", "a4.1@3", "a4.2@3"]);
  selection.navigation.item = 1;
  assert.deepEqual(selection.images().addresses, ["a4.1@3"]);
  listRuns(run("b", { items: 1 }), ...runs);
  assert.deepEqual(selection.images().addresses, ["b4@3"]);
});

test("the next steps of both runs are preloaded in the direction of the last move, but none while the end is followed", () => {
  listRuns(run("a"), run("b", { steps: 2 }));
  assert.deepEqual(selection.upcoming(), []);
  selection.navigation.compare(runs, "b");
  selection.navigation.goTo(1, selection.manifest);
  selection.navigation.goTo(2, selection.manifest);
  assert.deepEqual(selection.upcoming(), ["a3@2", "b2@1", "a4@3", "b2@1"]);
  selection.navigation.goTo(1, selection.manifest);
  assert.deepEqual(selection.upcoming(), []);
});

test("all frames of a video with a file per frame are preloaded", () => {
  listRuns(run("a", { frames: 3 }));
  selection.navigation.frame = 1;
  assert.deepEqual(selection.images().addresses, ["a4.1@3"]);
  assert.deepEqual(selection.upcoming(), ["a4.2@3", "a4@3"]);
  assert.deepEqual(selection.layout, { items: 1, frames: 3, animated: false, decodable: false });
});

test("an animated picture plays whole, and while paused its frames are decoded where that is supported", () => {
  listRuns(run("a", { frames: 20, files: 1 }));
  selection.navigation.frame = 18;
  assert.deepEqual([selection.images().addresses, selection.layout.animated, selection.upcoming()], [["a4@3"], true, []]);
  selection.playFrames = false;
  assert.deepEqual([selection.images().addresses, selection.layout.frames], [["a4@3#frame=18"], 20]);
  assert.deepEqual(selection.upcoming(), [19, 0, 1, 2, 3, 4, 5].map((frame) => `a4@3#frame=${frame}`));
  frames.supported = false;
  assert.deepEqual([selection.images().addresses, selection.layout.animated], [["a4@3"], true]);
});

test("with reduced motion frames play only on request", () => {
  reducedMotion = true;
  assert.equal(selection.framesPlaying, false);
  selection.playFrames = true;
  assert.equal(selection.framesPlaying, true);
});

test("a pinned picture is the second one, whatever the first is", () => {
  listRuns(run("a", { items: 2 }), run("b"));
  const { navigation } = selection;
  navigation.goTo(2, runs[0].manifest);
  navigation.item = 1;
  navigation.togglePin(runs[0].manifest);
  navigation.goTo(4, runs[0].manifest);
  assert.deepEqual(selection.images().addresses, ["a4.1@3", "a2.1@1"]);
  navigation.item = null;
  assert.deepEqual(selection.images().panes.map(({ addresses }) => addresses), [["a4@3", "a4.1@3"], ["a2.1@1"]]);
  navigation.choose("b");
  assert.deepEqual(selection.images().addresses, ["b4@3", "a2.1@1"]);
  assert.deepEqual(selection.upcoming(), ["b3@2", "b2@1"].slice(0, selection.upcoming().length));
});

test("where a step has pictures of both latents, the view says which are shown", () => {
  const both = run("a", { steps: 2, items: 2, files: 2 });
  for (const step of both.manifest.steps) step.noisy_files = step.files.map((file) => `noisy ${file}`);
  listRuns(both);
  source.exported = (id, file) => `export ${file}`;
  assert.deepEqual(selection.images().addresses, ["a2@1", "a2.1@1"]);
  view.latents = "noisy";
  assert.deepEqual(selection.images().addresses, ["noisy a2@1", "noisy a2.1@1"]);
  assert.deepEqual(selection.images().panes[0].exports, ["export noisy a2", "export noisy a2.1"]);
  selection.navigation.item = 1;
  assert.deepEqual(selection.images().addresses, ["noisy a2.1@1"]);
});

test("a step without noisy pictures, or with too few, shows what it has", () => {
  view.latents = "noisy";
  const some = run("a", { items: 2, files: 2 });
  some.manifest.steps.at(-1).noisy_files = ["one"];
  listRuns(some);
  assert.deepEqual(selection.images().addresses, ["a4@3", "a4.1@3"]);
});
