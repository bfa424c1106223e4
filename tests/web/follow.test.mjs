/** Which picture is on the stage, and which is never asked for. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Follower } from "../../web/follow.mjs";
import { Store } from "../../web/store.mjs";

const HERE = { workflow: "w", node: "2" };

let manifests, store, stage, loads, follower;

beforeEach(() => {
  manifests = {};
  store = new Store(async (path) => {
    const found = manifests[path.split("/").at(-1)];
    return found ? Response.json(found) : new Response("{}", { status: 404 });
  });
  const shown = [];
  const states = [];
  stage = {
    shown,
    states,
    run: (run) => states.push(`${run.id} ${run.state}`),
    show: (picture, run, step) => shown.push(`${run.id} ${step.index} ${picture}`),
  };
  loads = [];
  const asked = loads;
  const load = (address) => new Promise((arrive, fail) => asked.push({ address, arrive, fail }));
  follower = new Follower(store, stage, load);
  store.onChange(() => follower.look([HERE]));
});

/** The sampler has done a step: it is in the manifest, and the page is told. */
function sampled(run, index, state = "running") {
  const steps = Array.from({ length: index }, (_, i) => ({ index: i + 1, files: [`${i + 1}.jpg`], at: i, sigma: 1 }));
  manifests[run] = { format: "safelight.run/1", id: run, state, steps, notes: [], sampler: { steps: 9 } };
  store.tell({ v: 1, run, ...HERE, index, total: 9, state });
}

/** Lets everything happen that waits for nothing. */
const settle = () => new Promise((done) => setImmediate(() => setImmediate(done)));

test("the next picture is asked for when the last one is shown, and steps in between are left out", async () => {
  sampled("a", 1);
  await settle();
  for (const index of [2, 3, 4]) sampled("a", index);
  await settle();
  assert.deepEqual(loads.map(({ address }) => address), ["/safelight/runs/a/1.jpg?at=0"]);
  loads[0].arrive("picture");
  await settle();
  assert.deepEqual(stage.shown, ["a 1 picture"]);
  assert.deepEqual(loads.slice(1).map(({ address }) => address), ["/safelight/runs/a/4.jpg?at=3"]);
});

test("a picture that arrives after a newer run has begun is never shown", async () => {
  sampled("a", 9);
  await settle();
  sampled("b", 1);
  loads[0].arrive("foreign");
  await settle();
  loads[1].arrive("own");
  await settle();
  assert.deepEqual(stage.shown, ["b 1 own"]);
});

test("progress and the end are told at once, without waiting for pictures", async () => {
  sampled("a", 1);
  await settle();
  sampled("a", 9, "finished");
  assert.equal(stage.states.at(-1), "a finished");
  assert.deepEqual(stage.shown, []);
});

test("a picture that cannot be had is left out; the next one is shown", async () => {
  sampled("a", 1);
  await settle();
  loads[0].fail(new Error("broken"));
  await settle();
  sampled("a", 2);
  await settle();
  loads[1].arrive("picture");
  await settle();
  assert.deepEqual(stage.shown, ["a 2 picture"]);
});

test("the same picture is not fetched twice", async () => {
  sampled("a", 9);
  await settle();
  loads[0].arrive("picture");
  await settle();
  sampled("a", 9, "finished");
  await settle();
  assert.equal(loads.length, 1);
});

test("nothing is fetched for a node that nobody sees, and all is there when it is seen", async () => {
  follower.visible = false;
  sampled("a", 1);
  sampled("a", 2);
  await settle();
  assert.equal(loads.length, 0);
  follower.visible = true;
  await settle();
  assert.deepEqual(loads.map(({ address }) => address), ["/safelight/runs/a/2.jpg?at=1"]);
});

test("a node whose workflow gets another id shows its own last run until there is a new one", async () => {
  sampled("a", 1);
  await settle();
  loads[0].arrive("picture");
  await settle();
  follower.look([{ ...HERE, workflow: "saved as" }]);
  assert.equal(stage.states.at(-1), "a running");
});

test("a run of another place is nobody's here", async () => {
  manifests.x = {};
  store.tell({ v: 1, run: "x", workflow: "other", node: "2", index: 1, total: 9, state: "running" });
  await settle();
  assert.deepEqual([stage.states, loads], [[], []]);
});
