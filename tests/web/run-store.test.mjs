/** What the page knows of runs. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { pictureAddress, Store } from "../../web/run-store.mjs";

const HERE = { workflow: "w1", node: "6:2" };
const EARLY = "2026-01-01T10:00:00.000+00:00";
const LATE = "2026-01-01T12:00:00.000+02:00"; // the same hour, elsewhere
const LATER = "2026-01-01T10:00:01.000+00:00";

/** A server with these answers by path; others are 404. It writes down what it was asked. */
function server(answers) {
  const asked = [];
  const ask = async (path) => {
    asked.push(path);
    const body = answers[path.split("?")[0]];
    if (body instanceof Error) throw body;
    return body === undefined ? new Response("{}", { status: 404 }) : Response.json(body);
  };
  return { ask, asked };
}

const step = (run, index, more = {}) => ({ v: 1, run, ...HERE, index, total: 20, sigma: 0.5, state: "running", ...more });
const manifest = (id, more = {}) => ({ format: "safelight.run/1", id, state: "running", started: EARLY, steps: [], notes: [], ...more });

test("a run is known from its first event, under its place and no other", () => {
  const store = new Store(server({}).ask);
  store.tell(step("a", 3));
  assert.equal(store.newest([HERE]).index, 3);
  assert.equal(store.newest([{ ...HERE, workflow: "w2" }]), null);
  assert.equal(store.newest([{ ...HERE, node: "2" }]), null);
});

test("the run that was told last is the newest, also among several places", () => {
  const store = new Store(server({}).ask);
  store.tell(step("a", 9));
  store.tell(step("b", 1, { node: "8:2" }));
  assert.deepEqual(store.of([HERE, { ...HERE, node: "8:2" }]).map(({ id }) => id), ["b", "a"]);
});

test("an end is final, and a step that is told late does not turn the count back", () => {
  const store = new Store(server({}).ask);
  store.tell(step("a", 7));
  store.tell({ v: 1, run: "a", ...HERE, state: "interrupted" });
  store.tell(step("a", 5));
  const run = store.newest([HERE]);
  assert.deepEqual([run.state, run.index, run.total], ["interrupted", 7, 20]);
});

test("events of a newer kind, or without a run, are left alone", () => {
  const store = new Store(server({}).ask);
  for (const facts of [undefined, {}, { ...step("a", 1), v: 2 }, { v: 1, state: "running" }]) store.tell(facts);
  assert.equal(store.newest([HERE]), null);
});

test("after a reload the server says which runs there are", async () => {
  const { ask, asked } = server({
    "/safelight/runs": [
      { id: "b", state: "running", started: LATER },
      { id: "a", state: "finished", started: LATE },
    ],
  });
  const store = new Store(ask);
  await store.list(HERE);
  assert.deepEqual(asked, ["/safelight/runs?workflow=w1&node=6%3A2"]);
  assert.deepEqual(store.of([HERE]).map(({ id, state }) => [id, state]), [["b", "running"], ["a", "finished"]]);
});

test("a run that begins while the list is on its way is newer than the list, and not lost", async () => {
  const store = new Store(async () => {
    store.tell(step("c", 1));
    return Response.json([{ id: "a", state: "finished", started: EARLY }]);
  });
  await store.list(HERE);
  assert.equal(store.newest([HERE]).id, "c");
  assert.equal(store.newest([HERE]).gone, false);
});

test("a run that the server has lost does not run for ever", async () => {
  const store = new Store(server({ "/safelight/runs": [] }).ask);
  store.tell(step("a", 3));
  await store.list(HERE);
  assert.deepEqual([store.newest([HERE]).gone, store.newest([HERE]).state], [true, "interrupted"]);
});

test("a server that is away for a moment changes nothing", async () => {
  const store = new Store(server({ "/safelight/runs": new Error("away"), "/safelight/runs/a": new Error("away") }).ask);
  store.tell(step("a", 3));
  await store.list(HERE);
  assert.equal(await store.manifest("a"), null);
  assert.deepEqual([store.newest([HERE]).gone, store.newest([HERE]).state], [false, "running"]);
});

test("a manifest that is read before the folder was closed does not undo the end", async () => {
  const store = new Store(server({ "/safelight/runs/a": manifest("a") }).ask);
  store.tell(step("a", 20, { state: "finished" }));
  await store.manifest("a");
  assert.equal(store.newest([HERE]).state, "finished");
});

test("those who ask for a manifest while it is on its way share it", async () => {
  const { ask, asked } = server({ "/safelight/runs/a": manifest("a") });
  const store = new Store(ask);
  store.tell(step("a", 1));
  const [first, second] = await Promise.all([store.manifest("a"), store.manifest("a")]);
  assert.equal(first, second);
  await store.manifest("a");
  assert.equal(asked.length, 2);
});

test("a manifest of a newer format is not guessed at", async () => {
  const store = new Store(server({ "/safelight/runs/a": manifest("a", { format: "safelight.run/2" }) }).ask);
  store.tell(step("a", 1));
  assert.equal(await store.manifest("a"), null);
});

test("a run that is gone is asked for once", async () => {
  const { ask, asked } = server({});
  const store = new Store(ask);
  store.tell(step("a", 1));
  await store.manifest("a");
  await store.manifest("a");
  assert.deepEqual(asked, ["/safelight/runs/a"]);
});

test("a page that stays open for weeks keeps the newest runs only", () => {
  const store = new Store(server({}).ask);
  for (let i = 0; i < 1000; i++) store.tell(step(`run ${i}`, 1));
  const runs = store.of([HERE]);
  assert.equal(runs.length, 200);
  assert.equal(runs[0].id, "run 999");
});

test("listeners hear of changes until they leave", () => {
  const store = new Store(server({}).ask);
  let heard = 0;
  const leave = store.onChange(() => heard++);
  store.tell(step("a", 1));
  leave();
  store.tell(step("a", 2));
  assert.equal(heard, 1);
});

test("a step that is written again has another address, and no name breaks out of it", () => {
  const address = (file, at) => pictureAddress("a", file, at);
  assert.equal(address("step_0001.jpg", 0.5), "/safelight/runs/a/step_0001.jpg?at=0.5");
  assert.equal(address("step_0001.jpg", null), "/safelight/runs/a/step_0001.jpg");
  assert.equal(address("../x?y.jpg", 1), "/safelight/runs/a/..%2Fx%3Fy.jpg?at=1");
});

// What spares the manifest

const PICTURE = { width: 8, height: 8, items: 1, frames: 1 };
const told = (index, more = {}) => step("a", index, { files: [`${index}.jpg`], at: index, decode_ms: 1, notes: 0, ...more });

test("a manifest is read once; the steps that are told later are put into it", async () => {
  const { ask, asked } = server({ "/safelight/runs/a": manifest("a", { picture: PICTURE, steps: [{ index: 1, files: ["1.jpg"], at: 1 }] }) });
  const store = new Store(ask);
  store.tell(told(1));
  const run = store.newest([HERE]);
  assert.ok(run.stale); // nobody knows yet how large it is
  await store.manifest("a");
  store.tell(told(2));
  store.tell(told(3));
  assert.deepEqual([run.stale, run.manifest.steps.map(({ files }) => files[0])], [false, ["1.jpg", "2.jpg", "3.jpg"]]);
  assert.deepEqual(asked, ["/safelight/runs/a"]);
});

test("a step that is told while the manifest is on its way is not lost, one that is written again counts", async () => {
  const store = new Store(async () => {
    store.tell(told(2));
    store.tell(told(1, { files: ["again.jpg"], at: 7 }));
    return Response.json(manifest("a", { picture: PICTURE, steps: [{ index: 1, files: ["1.jpg"], at: 1 }] }));
  });
  store.tell(told(1));
  await store.manifest("a");
  assert.deepEqual(store.newest([HERE]).manifest.steps.map(({ files }) => files[0]), ["again.jpg", "2.jpg"]);
});

test("the manifest is old when a step comes without files, with a new note, or when the run has ended", async () => {
  const { ask } = server({ "/safelight/runs/a": manifest("a", { picture: PICTURE }) });
  for (const facts of [step("a", 2), told(2, { notes: 1 }), { v: 1, run: "a", ...HERE, state: "finished" }]) {
    const store = new Store(ask);
    store.tell(told(1));
    await store.manifest("a");
    assert.equal(store.newest([HERE]).stale, false);
    store.tell(facts);
    assert.equal(store.newest([HERE]).stale, true);
  }
});

test("who is told nothing hears from the list that there is more", async () => {
  const summary = { id: "a", state: "running", started: EARLY, steps: 1, thumbnail: "1.jpg" };
  const answers = {
    "/safelight/runs": [summary],
    "/safelight/runs/a": manifest("a", { picture: PICTURE, steps: [{ index: 1, files: ["1.jpg"], at: 1 }] }),
  };
  const store = new Store(server(answers).ask);
  await store.list(HERE);
  await store.manifest("a");
  await store.list(HERE);
  const run = store.newest([HERE]);
  assert.deepEqual([run.stale, run.thumbnail], [false, { file: "1.jpg", at: null }]);
  answers["/safelight/runs"] = [{ ...summary, steps: 2 }];
  await store.list(HERE);
  assert.equal(run.stale, true);
});

test("a node keeps its runs when its workflow gets another id, and has those of the other one too", () => {
  const store = new Store(server({}).ask);
  let here = [HERE];
  const source = store.source(() => here, (path) => `/api${path}`);
  store.tell(step("a", 1));
  store.tell(step("x", 1, { workflow: "w9" }));
  assert.deepEqual(source.runs().map(({ id }) => id), ["a"]);
  here = [{ ...HERE, workflow: "w2" }];
  store.tell(step("b", 1, { workflow: "w2" }));
  assert.deepEqual(source.runs().map(({ id }) => id), ["b", "a"]);
  assert.equal(source.picture("a", "1.jpg", 2), "/api/safelight/runs/a/1.jpg?at=2");
});

test("of a place that a node has left, the runs that began until then are its own", async () => {
  const left = { ...HERE, until: Date.parse(EARLY) };
  const store = new Store(server({ "/safelight/runs": [{ id: "after", state: "finished", started: LATER }, { id: "before", state: "finished", started: LATE }] }).ask);
  await store.list(left);
  store.tell(step("now", 1));
  assert.deepEqual(store.of([left]).map(({ id }) => id), ["before"]);
  assert.deepEqual(store.of([HERE]).map(({ id }) => id), ["now", "after", "before"]);
});
