/** The pictures that are loaded and painted. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { ImageCache } from "../../web/image-cache.mjs";
import { ImageLoader } from "../../web/image-loader.mjs";

let loads, shown, images, loader;

beforeEach(() => {
  loads = [];
  shown = [];
  images = new ImageCache((address) => new Promise((resolve, fail) => loads.push({ address, arrive: () => resolve(address), fail })), 3);
  loader = new ImageLoader(images, (set, painted) => shown.push(painted.join(" ")));
});

const set = (key, ...addresses) => ({ key, addresses });
const requested = () => loads.map(({ address }) => address);
/** Runs all pending promises. */
const settle = () => new Promise((done) => setImmediate(() => setImmediate(done)));

test("the next picture is requested when the last one is painted, and those in between are skipped", async () => {
  for (const step of ["1", "2", "3", "4"]) loader.request(set("a", step));
  assert.deepEqual(requested(), ["1"]);
  loads[0].arrive();
  await settle();
  assert.deepEqual([shown, requested()], [["1"], ["1", "4"]]);
  loads[1].arrive();
  await settle();
  assert.deepEqual(shown, ["1", "4"]);
  assert.ok(loader.idle);
});

test("a picture that arrives after another run was selected is not painted", async () => {
  loader.request(set("a", "a9"));
  loader.request(set("b", "b1"));
  loads[0].arrive();
  await settle();
  loads[1].arrive();
  await settle();
  assert.deepEqual(shown, ["b1"]);
});

test("a cached picture is painted immediately, and a late one does not replace it", async () => {
  loader.request(set("a", "1"));
  loads[0].arrive();
  await settle();
  loader.request(set("a", "2"));
  loader.request(set("a", "1"));
  loads[1].arrive();
  await settle();
  assert.deepEqual(shown, ["1"]);
  loader.request(set("a", "2"));
  assert.deepEqual(shown, ["1", "2"]);
});

test("the same set is not painted twice", async () => {
  loader.request(set("a", "1"));
  loads[0].arrive();
  await settle();
  loader.request(set("a", "1"));
  loader.request(null);
  assert.deepEqual([shown, requested()], [["1"], ["1"]]);
});

test("the pictures of a batch are painted together", async () => {
  loader.request(set("a", "1", "2"));
  loads[1].arrive();
  await settle();
  assert.deepEqual(shown, []);
  loads[0].fail(new Error("broken"));
  await settle();
  assert.deepEqual(shown, [" 2"]); // the one that failed is empty
});

test("a set that failed is reported once, and not requested again until a reset", async () => {
  loader.request(set("a", "1"));
  loads[0].fail(new Error("broken"));
  await settle();
  loader.request(set("a", "1"));
  await settle();
  assert.deepEqual([shown, requested()], [[""], ["1"]]);
  loader.reset();
  loader.request(set("a", "1"));
  assert.deepEqual(requested(), ["1", "1"]);
});

test("a picture is not painted after an empty request", async () => {
  loader.request(set("a", "1"));
  loader.request(null);
  loads[0].arrive();
  await settle();
  assert.deepEqual([shown, requested()], [[], ["1"]]);
});

test("the cache holds the most recently used pictures", async () => {
  for (const address of ["1", "2", "3"]) images.get(address);
  loads.forEach(({ arrive }) => arrive());
  await settle();
  assert.equal(images.ready("1"), "1");
  images.get("4");
  loads[3].arrive();
  await settle();
  assert.deepEqual(["1", "2", "3", "4"].map((address) => images.ready(address)), ["1", null, "3", "4"]);
});

test("parallel calls for a picture share one request", async () => {
  const both = Promise.all([images.get("1"), images.get("1")]);
  loads[0].arrive();
  assert.deepEqual([await both, requested()], [["1", "1"], ["1"]]);
});
