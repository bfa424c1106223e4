/** The store of ComfyUI's runs, with a server that sends events. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { isSilent } from "../../web/manifest.mjs";
import { RunStore } from "../../web/run-store.mjs";

const HERE = { workflow: "w1", node: "6:2" };
const EARLY = "2026-01-01T10:00:00.000+00:00";
const LATE = "2026-01-01T12:00:00.000+02:00"; // the same time in another zone
const LATER = "2026-01-01T10:00:01.000+00:00";

/** A server with answers by path, else 404. It records the requested paths. */
function server(answers) {
  const requests = [];
  const request = async (path) => {
    requests.push(path);
    const body = answers[path.split("?")[0]];
    if (body instanceof Error) throw body;
    return body === undefined ? new Response("{}", { status: 404 }) : Response.json(body);
  };
  return { request, requests };
}

const step = (run, index, more = {}) => ({ v: 1, run, ...HERE, index, total: 20, sigma: 0.5, state: "running", ...more });
const manifest = (id, more = {}) => ({ format: "safelight.run/1", id, state: "running", started: EARLY, steps: [], notes: [], ...more });

test("the first event of a run adds it to its place and to no other", () => {
  const store = new RunStore(server({}).request);
  store.receive(step("a", 3));
  assert.equal(store.of([HERE])[0].index, 3);
  assert.deepEqual(store.of([{ ...HERE, workflow: "w2" }]), []);
  assert.deepEqual(store.of([{ ...HERE, node: "2" }]), []);
});

test("the run of the latest event is the newest, also among several places", () => {
  const store = new RunStore(server({}).request);
  store.receive(step("a", 9));
  store.receive(step("b", 1, { node: "8:2" }));
  assert.deepEqual(store.of([HERE, { ...HERE, node: "8:2" }]).map(({ id }) => id), ["b", "a"]);
});

test("an end is final, and a late event does not lower the step count", () => {
  const store = new RunStore(server({}).request);
  store.receive(step("a", 7));
  store.receive({ v: 1, run: "a", ...HERE, state: "interrupted" });
  store.receive(step("a", 5));
  const run = store.of([HERE])[0];
  assert.deepEqual([run.state, run.index, run.total], ["interrupted", 7, 20]);
});

test("events of another version or without a run are ignored", () => {
  const store = new RunStore(server({}).request);
  for (const facts of [undefined, {}, { ...step("a", 1), v: 2 }, { v: 1, state: "running" }]) store.receive(facts);
  assert.deepEqual(store.of([HERE]), []);
});

test("after a reload the server lists the runs of a place", async () => {
  const { request, requests } = server({
    "/safelight/runs": [
      { id: "b", state: "running", started: LATER },
      { id: "a", state: "finished", started: LATE },
    ],
  });
  const store = new RunStore(request);
  await store.list(HERE);
  assert.deepEqual(requests, ["/safelight/runs?workflow=w1&node=6%3A2"]);
  assert.deepEqual(store.of([HERE]).map(({ id, state }) => [id, state]), [["b", "running"], ["a", "finished"]]);
});

test("a run that begins during the request of the list is not lost", async () => {
  const store = new RunStore(async () => {
    store.receive(step("c", 1));
    return Response.json([{ id: "a", state: "finished", started: EARLY }]);
  });
  await store.list(HERE);
  assert.equal(store.of([HERE])[0].id, "c");
  assert.equal(store.of([HERE])[0].gone, false);
});

test("a run that the server no longer has is gone and interrupted", async () => {
  const store = new RunStore(server({ "/safelight/runs": [] }).request);
  store.receive(step("a", 3));
  await store.list(HERE);
  assert.deepEqual([store.of([HERE])[0].gone, store.of([HERE])[0].state], [true, "interrupted"]);
});

test("a run that a script queued without the key of the page is not in the list, and stays while the server has it", async () => {
  const { request, requests } = server({ "/safelight/runs": [], "/safelight/runs/a": manifest("a", { picture: PICTURE }) });
  const store = new RunStore(request);
  store.receive(step("a", 3));
  await store.list(HERE);
  assert.deepEqual([store.of([HERE])[0].gone, store.of([HERE])[0].state], [false, "running"]);
  assert.deepEqual(requests, ["/safelight/runs?workflow=w1&node=6%3A2", "/safelight/runs/a"]);
});

test("a run that was listed and is missing in the next list is gone", async () => {
  const answers = { "/safelight/runs": [{ id: "a", state: "finished", started: EARLY }] };
  const { request, requests } = server(answers);
  const store = new RunStore(request);
  await store.list(HERE);
  answers["/safelight/runs"] = [];
  await store.list(HERE);
  assert.equal(store.of([HERE])[0].gone, true);
  assert.equal(requests.length, 2);
});

test("an unreachable server changes nothing", async () => {
  const store = new RunStore(server({ "/safelight/runs": new Error("away"), "/safelight/runs/a": new Error("away") }).request);
  store.receive(step("a", 3));
  await store.list(HERE);
  assert.equal(await store.manifest("a"), null);
  assert.deepEqual([store.of([HERE])[0].gone, store.of([HERE])[0].state], [false, "running"]);
});

test("an older manifest does not undo the end of a run", async () => {
  const store = new RunStore(server({ "/safelight/runs/a": manifest("a") }).request);
  store.receive(step("a", 20, { state: "finished" }));
  await store.manifest("a");
  assert.equal(store.of([HERE])[0].state, "finished");
});

test("parallel reads of a manifest share one request", async () => {
  const { request, requests } = server({ "/safelight/runs/a": manifest("a") });
  const store = new RunStore(request);
  store.receive(step("a", 1));
  const [first, second] = await Promise.all([store.manifest("a"), store.manifest("a")]);
  assert.equal(first, second);
  await store.manifest("a");
  assert.equal(requests.length, 2);
});

test("a manifest of a newer format is not read", async () => {
  const store = new RunStore(server({ "/safelight/runs/a": manifest("a", { format: "safelight.run/2" }) }).request);
  store.receive(step("a", 1));
  assert.equal(await store.manifest("a"), null);
});

test("a run that is gone is requested once", async () => {
  const { request, requests } = server({});
  const store = new RunStore(request);
  store.receive(step("a", 1));
  await store.manifest("a");
  await store.manifest("a");
  assert.deepEqual(requests, ["/safelight/runs/a"]);
});

test("the store holds the newest 200 runs", () => {
  const store = new RunStore(server({}).request);
  for (let i = 0; i < 1000; i++) store.receive(step(`run ${i}`, 1));
  const runs = store.of([HERE]);
  assert.equal(runs.length, 200);
  assert.equal(runs[0].id, "run 999");
});

test("listeners are called until they unsubscribe", () => {
  const store = new RunStore(server({}).request);
  let calls = 0;
  const unsubscribe = store.onChange(() => calls++);
  store.receive(step("a", 1));
  unsubscribe();
  store.receive(step("a", 2));
  assert.equal(calls, 1);
});

test("a step that is written again has another address, and a file name cannot leave the run's path", () => {
  const address = (file, at) => new RunStore(server({}).request).picture("a", file, at);
  assert.equal(address("step_0001.jpg", 0.5), "/safelight/runs/a/step_0001.jpg?at=0.5");
  assert.equal(address("step_0001.jpg", null), "/safelight/runs/a/step_0001.jpg");
  assert.equal(address("../x?y.jpg", 1), "/safelight/runs/a/..%2Fx%3Fy.jpg?at=1");
});

// Fewer reads of the manifest

const PICTURE = { width: 8, height: 8, items: 1, frames: 1 };
const pictured = (index, more = {}) => step("a", index, { files: [`${index}.jpg`], at: index, decode_ms: 1, notes: 0, ...more });

test("a manifest is read once, and events add the later steps", async () => {
  const { request, requests } = server({ "/safelight/runs/a": manifest("a", { picture: PICTURE, steps: [{ index: 1, files: ["1.jpg"], at: 1 }] }) });
  const store = new RunStore(request);
  store.receive(pictured(1));
  const run = store.of([HERE])[0];
  assert.ok(run.stale); // the size of its pictures is unknown
  await store.manifest("a");
  store.receive(pictured(2));
  store.receive(pictured(3));
  assert.deepEqual([run.stale, run.manifest.steps.map(({ files }) => files[0])], [false, ["1.jpg", "2.jpg", "3.jpg"]]);
  assert.deepEqual(requests, ["/safelight/runs/a"]);
});

test("events during the read of a manifest are not lost, and a step that is written again replaces the older one", async () => {
  const store = new RunStore(async () => {
    store.receive(pictured(2));
    store.receive(pictured(1, { files: ["again.jpg"], at: 7 }));
    return Response.json(manifest("a", { picture: PICTURE, steps: [{ index: 1, files: ["1.jpg"], at: 1 }] }));
  });
  store.receive(pictured(1));
  await store.manifest("a");
  assert.deepEqual(store.of([HERE])[0].manifest.steps.map(({ files }) => files[0]), ["again.jpg", "2.jpg"]);
});

test("a manifest is stale after a step without files, after a new note, and after the end", async () => {
  const { request } = server({ "/safelight/runs/a": manifest("a", { picture: PICTURE }) });
  for (const facts of [step("a", 2), pictured(2, { notes: 1 }), { v: 1, run: "a", ...HERE, state: "finished" }]) {
    const store = new RunStore(request);
    store.receive(pictured(1));
    await store.manifest("a");
    assert.equal(store.of([HERE])[0].stale, false);
    store.receive(facts);
    assert.equal(store.of([HERE])[0].stale, true);
  }
});

test("without events a new version in the list makes the manifest stale", async () => {
  const summary = { id: "a", version: "1", state: "running", started: EARLY, steps: 1, thumbnail: "1.jpg" };
  const answers = {
    "/safelight/runs": [summary],
    "/safelight/runs/a": manifest("a", { picture: PICTURE, steps: [{ index: 1, files: ["1.jpg"], at: 1 }] }),
  };
  const store = new RunStore(server(answers).request);
  await store.list(HERE);
  await store.manifest("a");
  await store.list(HERE);
  const run = store.of([HERE])[0];
  assert.deepEqual([run.stale, run.thumbnail], [false, { file: "1.jpg", at: null }]);
  answers["/safelight/runs"] = [{ ...summary, version: "2", steps: 2 }];
  await store.list(HERE);
  assert.equal(run.stale, true);
});

test("a node keeps its runs when its workflow gets another id, and adds those of the new id", () => {
  const store = new RunStore(server({}).request);
  let here = [HERE];
  const source = store.source(() => here, (path) => `/api${path}`);
  store.receive(step("a", 1));
  store.receive(step("x", 1, { workflow: "w9" }));
  assert.deepEqual(source.runs().map(({ id }) => id), ["a"]);
  here = [{ ...HERE, workflow: "w2" }];
  store.receive(step("b", 1, { workflow: "w2" }));
  assert.deepEqual(source.runs().map(({ id }) => id), ["b", "a"]);
  assert.equal(source.picture("a", "1.jpg", 2), "/api/safelight/runs/a/1.jpg?at=2");
});

test("a former place has the runs that began before the node left it", async () => {
  const former = { ...HERE, until: Date.parse(EARLY) };
  const store = new RunStore(server({ "/safelight/runs": [{ id: "after", state: "finished", started: LATER }, { id: "before", state: "finished", started: LATE }] }).request);
  await store.list(former);
  store.receive(step("now", 1));
  assert.deepEqual(store.of([former]).map(({ id }) => id), ["before"]);
  assert.deepEqual(store.of([HERE]).map(({ id }) => id), ["now", "after", "before"]);
});

test("a new version in the list does not make a manifest stale if events have added everything", async () => {
  const summary = { id: "a", version: "1", state: "running", started: EARLY, steps: 1, thumbnail: "1.jpg" };
  const answers = { "/safelight/runs": [summary], "/safelight/runs/a": manifest("a", { picture: PICTURE }) };
  const store = new RunStore(server(answers).request);
  store.receive(pictured(1));
  await store.manifest("a");
  await store.list(HERE);
  assert.equal(store.of([HERE])[0].stale, false);
  answers["/safelight/runs"] = [{ ...summary, version: "2", steps: 2 }];
  await store.list(HERE);
  assert.equal(store.of([HERE])[0].stale, true);
});

test("a run without updates is not silent, because the server reports its end", async () => {
  const store = new RunStore(server({ "/safelight/runs": [{ id: "a", version: "1", state: "running", started: EARLY, written: 1 }] }).request);
  await store.list(HERE);
  assert.equal(isSilent(store.of([HERE])[0], Date.now()), false);
});

test("the event of a step with NaN latents marks the step", async () => {
  const store = new RunStore(server({ "/safelight/runs/a": manifest("a") }).request);
  store.receive(step("a", 1));
  await store.manifest("a");
  store.receive(step("a", 2, { files: ["step_0002.jpg"], at: 1, not_finite: 0.5 }));
  store.receive(step("a", 3, { files: ["step_0003.jpg"], at: 2 }));
  assert.deepEqual(store.of([HERE])[0].manifest.steps.map(({ not_finite }) => not_finite), [0.5, undefined]);
});

test("a decoder that a note offers is requested below its run, and the answer comes in words", async () => {
  const asked = [];
  const replies = [Response.json({ file: "taew2_1.safetensors" }), Response.json({ error: "no network" }, { status: 502 }), new Error("gone")];
  const store = new RunStore(async (path, method) => {
    asked.push([path, method]);
    const reply = replies.shift();
    if (reply instanceof Error) throw reply;
    return reply;
  });
  const { get } = store.source(() => [HERE], (path) => path);
  assert.deepEqual(await get("a/b", "taew2_1"), { done: true, text: "taew2_1.safetensors is installed. The next run can use it." });
  assert.deepEqual(await get("a", "taew2_1"), { done: false, text: "no network" });
  assert.deepEqual(await get("a", "taew2_1"), { done: false, text: "The server cannot be reached. Try again." });
  assert.deepEqual(asked[0], ["/safelight/runs/a%2Fb/decoders/taew2_1", "POST"]);
});

test("a change names its runs, so that only their viewers are drawn again", async () => {
  const run = { id: "a", state: "running", started: EARLY, version: "1" };
  const store = new RunStore(server({ "/safelight/runs": [run], "/safelight/runs/a": manifest("a") }).request);
  const heard = [];
  store.onChange((ids) => heard.push(ids));
  store.receive(step("b", 1, { node: "8:2" }));
  await store.list(HERE);
  await store.list(HERE); // nothing is new
  await store.manifest("a");
  store.forget("b");
  assert.deepEqual(heard, [["b"], ["a"], ["a"], ["b"]]);
});

test("the source of a node knows which changes are of its runs, also of runs that are gone", () => {
  const store = new RunStore(server({}).request);
  const [here, there] = [HERE, { ...HERE, node: "8:2" }].map((place) => store.source(() => [place], String));
  store.receive(step("a", 1));
  assert.deepEqual([here, there].map(({ hasAny }) => hasAny(["a"])), [true, false]);
  store.forget("a");
  assert.deepEqual([here, there].map(({ hasAny }) => hasAny(["a", "other"])), [true, false]);
  assert.equal(here.hasAny([]), false);
});
