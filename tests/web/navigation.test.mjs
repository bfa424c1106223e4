/** The selected run and step, and how they change. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Navigation } from "../../web/navigation.mjs";

const manifest = (count, every = 1) => ({
  steps: Array.from({ length: count }, (_, i) => ({ index: i + 1, sigma: 1 - i / count, files: i % every ? [] : ["x"] })),
});
const runs = (...ids) => ids.map((id) => ({ id }));

let navigation;

beforeEach(() => {
  navigation = new Navigation();
  navigation.update(runs("b", "a"), true);
});

const at = (manifest) => navigation.step(manifest)?.index;

test("at first the newest step of the newest run is selected", () => {
  assert.equal(navigation.run, "b");
  assert.ok(navigation.live);
  assert.deepEqual([at(manifest(3)), at(manifest(4)), at(null)], [3, 4, undefined]);
});

test("a run that begins is selected", () => {
  navigation.goTo(2, manifest(9));
  assert.ok(!navigation.live);
  navigation.update(runs("c", "b", "a"), true);
  assert.deepEqual([navigation.run, navigation.live], ["c", true]);
});

test("a run that begins is not selected if the step is locked or the user does not follow new runs", () => {
  navigation.toggleLock(manifest(4));
  navigation.update(runs("c", "b", "a"), true);
  assert.deepEqual([navigation.run, at(manifest(9))], ["b", 4]);
  navigation.toggleLock(manifest(9));
  assert.deepEqual([navigation.run, navigation.live], ["c", true]);
  navigation.update(runs("d", "c"), false);
  assert.deepEqual([navigation.run, navigation.live], ["c", false]);
});

test("a run that no longer exists is not selected, locked or not", () => {
  navigation.toggleLock(manifest(4));
  navigation.update(runs("z"), true);
  assert.deepEqual([navigation.run, navigation.locked, navigation.live], ["z", false, true]);
  navigation.update([], true);
  assert.deepEqual([navigation.run, navigation.live], [null, false]);
});

test("moves skip steps without a picture and stop at the ends", () => {
  const sparse = manifest(9, 4); // 1, 5, 9
  navigation.moveBy(-1, sparse);
  assert.equal(at(sparse), 5);
  navigation.moveBy(-5, sparse);
  assert.deepEqual([at(sparse), navigation.direction], [1, -1]);
  navigation.moveBy(1, sparse);
  assert.deepEqual([at(sparse), navigation.direction], [5, 1]);
  navigation.goTo(8, sparse);
  assert.equal(at(sparse), 9);
  navigation.first(sparse);
  assert.equal(at(sparse), 1);
  navigation.end();
  assert.ok(navigation.live);
});

test("a run without pictures ignores commands", () => {
  for (const command of ["first", "toggleLock", "togglePlay"]) navigation[command]({ steps: [] });
  navigation.moveBy(1, null);
  navigation.goTo(3, null);
  assert.deepEqual([navigation.index, navigation.locked, navigation.playing], [null, false, false]);
});

test("playback goes from the first step to the last and ends there", () => {
  const played = manifest(3);
  navigation.togglePlay(played);
  const seen = [at(played)];
  while (navigation.playing) navigation.tick(played), seen.push(at(played));
  assert.deepEqual(seen, [1, 2, 3]);
  assert.ok(navigation.live);
});

test("playback from the middle continues from there", () => {
  const played = manifest(9);
  navigation.goTo(4, played);
  navigation.togglePlay(played);
  navigation.tick(played);
  assert.equal(at(played), 5);
  navigation.togglePlay(played);
  navigation.tick(played);
  assert.equal(at(played), 5);
});

test("another run is shown at the selected step", () => {
  navigation.goTo(2, manifest(9));
  navigation.choose("a");
  assert.deepEqual([navigation.run, at(manifest(9))], ["a", 2]);
  navigation.end();
  navigation.choose("b");
  assert.ok(navigation.live);
});

test("a comparison is with the run before, or with a selected one", () => {
  navigation.compare(runs("b", "a"));
  assert.deepEqual([navigation.run, navigation.other], ["b", "a"]);
  navigation.choose("a");
  assert.deepEqual([navigation.run, navigation.other], ["a", "b"]);
  navigation.choose("z");
  assert.deepEqual([navigation.run, navigation.other], ["a", "z"]);
  navigation.update(runs("b", "a"), true);
  assert.equal(navigation.other, null);
  navigation.compare(runs("a"));
  assert.equal(navigation.other, null);
});

test("a run that begins takes the place of the first run in a comparison", () => {
  navigation.compare(runs("b", "a"));
  navigation.update(runs("c", "b", "a"), true);
  assert.deepEqual([navigation.run, navigation.other, navigation.live], ["c", "a", true]);
});

test("the other run is at the same step or at the same noise level", () => {
  const [long, short] = [manifest(20), manifest(10)];
  const step = long.steps[9]; // sigma 0.55
  assert.equal(navigation.match(step, short, "step").index, 10);
  assert.equal(navigation.match(step, short, "sigma").index, 5); // sigma 0.6
  assert.equal(navigation.match({ index: 3, sigma: null }, short, "sigma").index, 3);
  assert.equal(navigation.match(null, short, "step").index, 10);
  assert.equal(navigation.match(step, null, "step"), null);
});

// Any two pictures

test("a pinned picture stays while the user goes to other steps, items and runs", () => {
  navigation.goTo(2, manifest(5));
  navigation.item = 1;
  navigation.togglePin(manifest(5));
  assert.deepEqual(navigation.pin, { run: "b", index: 2, item: 1 });
  navigation.goTo(4, manifest(5));
  navigation.choose("a");
  assert.deepEqual([navigation.run, navigation.pin.run, navigation.pin.index, navigation.comparing], ["a", "b", 2, true]);
  navigation.update(runs("c", "b", "a"), true);
  assert.deepEqual([navigation.run, navigation.pin.run], ["c", "b"]);
});

test("without its pin a picture of another run is compared as a run, and one of the same run not at all", () => {
  navigation.togglePin(manifest(5));
  navigation.choose("a");
  navigation.togglePin(manifest(5));
  assert.deepEqual([navigation.pin, navigation.run, navigation.other], [null, "a", "b"]);
  navigation.endComparison();
  navigation.togglePin(manifest(5));
  navigation.togglePin(manifest(5));
  assert.equal(navigation.comparing, false);
});

test("in a comparison of two runs the shown step of the second is pinned", () => {
  navigation.compare(runs("b", "a"));
  navigation.togglePin(manifest(5), { index: 3 });
  assert.deepEqual(navigation.pin, { run: "a", index: 3, item: null });
  assert.equal(navigation.other, null);
});

test("a pin ends with its run, and by the comparison with a run", () => {
  navigation.togglePin(manifest(5));
  navigation.compare(runs("b", "a"), "a");
  assert.deepEqual([navigation.pin, navigation.other], [null, "a"]);
  navigation.choose("a");
  navigation.endComparison();
  navigation.togglePin(manifest(5));
  navigation.update(runs("z"), true);
  assert.equal(navigation.pin, null);
});

test("an item of a batch is compared with another one", () => {
  navigation.compareItem(0, manifest(5));
  assert.deepEqual([navigation.item, navigation.pin.item], [1, 0]);
  navigation.compareItem(3, manifest(5));
  assert.deepEqual([navigation.item, navigation.pin.item], [1, 3]);
});

test("items are moved through from all to the last one and back", () => {
  const seen = [1, 1, 1, 1, -1, -1, -1, -1].map((count) => (navigation.moveItem(count, 3), navigation.item));
  assert.deepEqual(seen, [0, 1, 2, 2, 1, 0, null, null]);
  assert.equal(navigation.moveItem(1, 1), false);
});
