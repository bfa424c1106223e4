/** Where a person is taken, and where not. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Travel } from "../../web/navigation.mjs";

const manifest = (count, every = 1) => ({
  steps: Array.from({ length: count }, (_, i) => ({ index: i + 1, sigma: 1 - i / count, files: i % every ? [] : ["x"] })),
});
const runs = (...ids) => ids.map((id) => ({ id }));

let travel;

beforeEach(() => {
  travel = new Travel();
  travel.meet(runs("b", "a"), true);
});

const at = (made) => travel.step(made)?.index;

test("at first it is the newest step of the newest run", () => {
  assert.equal(travel.run, "b");
  assert.ok(travel.live);
  assert.deepEqual([at(manifest(3)), at(manifest(4)), at(null)], [3, 4, undefined]);
});

test("a run that begins takes the view", () => {
  travel.go(2, manifest(9));
  assert.ok(!travel.live);
  travel.meet(runs("c", "b", "a"), true);
  assert.deepEqual([travel.run, travel.live], ["c", true]);
});

test("not from one who has locked it, nor where nobody wants that", () => {
  travel.toggleLock(manifest(4));
  travel.meet(runs("c", "b", "a"), true);
  assert.deepEqual([travel.run, at(manifest(9))], ["b", 4]);
  travel.toggleLock(manifest(9));
  assert.deepEqual([travel.run, travel.live], ["c", true]);
  travel.meet(runs("d", "c"), false);
  assert.deepEqual([travel.run, travel.live], ["c", false]);
});

test("a run that the page forgets is not looked at any more, locked or not", () => {
  travel.toggleLock(manifest(4));
  travel.meet(runs("z"), true);
  assert.deepEqual([travel.run, travel.locked, travel.live], ["z", false, true]);
  travel.meet([], true);
  assert.deepEqual([travel.run, travel.live], [null, false]);
});

test("steps are gone through one by one, those without a picture left out, and not beyond the ends", () => {
  const sparse = manifest(9, 4); // 1, 5, 9
  travel.by(-1, sparse);
  assert.equal(at(sparse), 5);
  travel.by(-5, sparse);
  assert.deepEqual([at(sparse), travel.direction], [1, -1]);
  travel.by(1, sparse);
  assert.deepEqual([at(sparse), travel.direction], [5, 1]);
  travel.go(8, sparse);
  assert.equal(at(sparse), 9);
  travel.first(sparse);
  assert.equal(at(sparse), 1);
  travel.end();
  assert.ok(travel.live);
});

test("nothing happens in a run without pictures", () => {
  for (const act of ["first", "toggleLock", "togglePlay"]) travel[act]({ steps: [] });
  travel.by(1, null);
  travel.go(3, null);
  assert.deepEqual([travel.index, travel.locked, travel.playing], [null, false, false]);
});

test("playing goes from the first step to the last and ends there", () => {
  const made = manifest(3);
  travel.togglePlay(made);
  const seen = [at(made)];
  while (travel.playing) travel.tick(made), seen.push(at(made));
  assert.deepEqual(seen, [1, 2, 3]);
  assert.ok(travel.live);
});

test("playing from the middle goes on from there", () => {
  const made = manifest(9);
  travel.go(4, made);
  travel.togglePlay(made);
  travel.tick(made);
  assert.equal(at(made), 5);
  travel.togglePlay(made);
  travel.tick(made);
  assert.equal(at(made), 5);
});

test("another run is looked at where this one was held", () => {
  travel.go(2, manifest(9));
  travel.choose("a");
  assert.deepEqual([travel.run, at(manifest(9))], ["a", 2]);
  travel.end();
  travel.choose("b");
  assert.ok(travel.live);
});

test("two are compared: this one and the one before, or the one that is said", () => {
  travel.compare(runs("b", "a"));
  assert.deepEqual([travel.run, travel.other], ["b", "a"]);
  travel.choose("a");
  assert.deepEqual([travel.run, travel.other], ["a", "b"]);
  travel.choose("z");
  assert.deepEqual([travel.run, travel.other], ["a", "z"]);
  travel.meet(runs("b", "a"), true);
  assert.equal(travel.other, null);
  travel.compare(runs("a"));
  assert.equal(travel.other, null);
});

test("a run that begins is compared with what the last one was compared with", () => {
  travel.compare(runs("b", "a"));
  travel.meet(runs("c", "b", "a"), true);
  assert.deepEqual([travel.run, travel.other, travel.live], ["c", "a", true]);
});

test("the other run is at the same step, or at the same noise", () => {
  const [long, short] = [manifest(20), manifest(10)];
  const step = long.steps[9]; // sigma 0.55
  assert.equal(travel.match(step, short, "step").index, 10);
  assert.equal(travel.match(step, short, "sigma").index, 5); // sigma 0.6
  assert.equal(travel.match({ index: 3, sigma: null }, short, "sigma").index, 3);
  assert.equal(travel.match(null, short, "step").index, 10);
  assert.equal(travel.match(step, null, "step"), null);
});
