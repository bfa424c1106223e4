/** Which picture is on the screen, and which is never asked for. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Pictures } from "../../web/image-cache.mjs";
import { Projector } from "../../web/image-loader.mjs";

let loads, shown, pictures, projector;

beforeEach(() => {
  loads = [];
  shown = [];
  pictures = new Pictures((address) => new Promise((arrive, fail) => loads.push({ address, arrive: () => arrive(address), fail })), 3);
  projector = new Projector(pictures, (slide, painted) => shown.push(painted.join(" ")));
});

const slide = (scene, ...addresses) => ({ scene, addresses });
const asked = () => loads.map(({ address }) => address);
/** Lets everything happen that waits for nothing. */
const settle = () => new Promise((done) => setImmediate(() => setImmediate(done)));

test("the next picture is asked for when the last one is shown, and those in between are left out", async () => {
  for (const step of ["1", "2", "3", "4"]) projector.want(slide("a", step));
  assert.deepEqual(asked(), ["1"]);
  loads[0].arrive();
  await settle();
  assert.deepEqual([shown, asked()], [["1"], ["1", "4"]]);
  loads[1].arrive();
  await settle();
  assert.deepEqual(shown, ["1", "4"]);
  assert.ok(projector.idle);
});

test("a picture that arrives when another run is looked at is never shown", async () => {
  projector.want(slide("a", "a9"));
  projector.want(slide("b", "b1"));
  loads[0].arrive();
  await settle();
  loads[1].arrive();
  await settle();
  assert.deepEqual(shown, ["b1"]);
});

test("what was loaded before is shown at once, and what comes late does not replace it", async () => {
  projector.want(slide("a", "1"));
  loads[0].arrive();
  await settle();
  projector.want(slide("a", "2"));
  projector.want(slide("a", "1"));
  loads[1].arrive();
  await settle();
  assert.deepEqual(shown, ["1"]);
  projector.want(slide("a", "2"));
  assert.deepEqual(shown, ["1", "2"]);
});

test("the same slide is not shown twice", async () => {
  projector.want(slide("a", "1"));
  loads[0].arrive();
  await settle();
  projector.want(slide("a", "1"));
  projector.want(null);
  assert.deepEqual([shown, asked()], [["1"], ["1"]]);
});

test("the pictures of a batch are shown together", async () => {
  projector.want(slide("a", "1", "2"));
  loads[1].arrive();
  await settle();
  assert.deepEqual(shown, []);
  loads[0].fail(new Error("broken"));
  await settle();
  assert.deepEqual(shown, [" 2"]); // the one that cannot be had is empty
});

test("a slide that cannot be had is told once, and not asked for again until that is wanted", async () => {
  projector.want(slide("a", "1"));
  loads[0].fail(new Error("broken"));
  await settle();
  projector.want(slide("a", "1"));
  await settle();
  assert.deepEqual([shown, asked()], [[""], ["1"]]);
  projector.forget();
  projector.want(slide("a", "1"));
  assert.deepEqual(asked(), ["1", "1"]);
});

test("nothing is fetched when nothing is wanted", async () => {
  projector.want(slide("a", "1"));
  projector.want(null);
  loads[0].arrive();
  await settle();
  assert.deepEqual([shown, asked()], [[], ["1"]]);
});

test("the pictures that were used last are kept", async () => {
  for (const address of ["1", "2", "3"]) pictures.get(address);
  loads.forEach(({ arrive }) => arrive());
  await settle();
  assert.equal(pictures.ready("1"), "1");
  pictures.get("4");
  loads[3].arrive();
  await settle();
  assert.deepEqual(["1", "2", "3", "4"].map((address) => pictures.ready(address)), ["1", null, "3", "4"]);
});

test("those who ask for a picture while it is on its way share it", async () => {
  const both = Promise.all([pictures.get("1"), pictures.get("1")]);
  loads[0].arrive();
  assert.deepEqual([await both, asked()], [["1", "1"], ["1"]]);
});
