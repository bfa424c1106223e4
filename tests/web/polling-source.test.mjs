/** The source that polls `safelight view`. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { PollingSource } from "../../web/polling-source.mjs";

let server, requests, source, changes;

beforeEach(() => {
  server = { runs: [] };
  requests = [];
  source = new PollingSource(async (path) => {
    requests.push(path);
    if (server === null) throw new TypeError("Failed to fetch");
    return path in server ? Response.json(server[path]) : new Response("{}", { status: 404 });
  });
  changes = 0;
  source.onChange(() => changes++);
});

const manifest = (more = {}) => ({
  format: "safelight.run/1",
  id: "a",
  state: "finished",
  started: "2026-01-02T03:04:05.000+00:00",
  sampler: { steps: 3 },
  steps: [1, 2, 3].map((index) => ({ index, sigma: 1 / index, at: index, files: [`step_000${index}.png`] })),
  notes: [],
  ...more,
});

const summary = (id, version, more = {}) => ({
  ...{ id, version, state: "finished", started: `2026-01-0${id.charCodeAt(0) - 96}T00:00:00Z`, written: null },
  ...{ space: "sd1", decoder: null, picture: null, sampler: { steps: 3 } },
  ...{ steps: 3, index: 3, total: 3, thumbnail: "step_0003.png", at: 3, ...more },
});

test("runs are listed newest first, with what their thumbnails need", async () => {
  server.runs = [summary("b", "1", { thumbnail: null, at: null, index: null, state: "running" }), summary("a", "1")];
  await source.poll();
  const listed = source.runs().map(({ id, state, index, total, thumbnail }) => ({ id, state, index, total, thumbnail }));
  assert.deepEqual(listed, [
    { id: "b", state: "running", index: null, total: 3, thumbnail: null },
    { id: "a", state: "finished", index: 3, total: 3, thumbnail: { file: "step_0003.png", at: 3 } },
  ]);
});

test("runs without a time of start keep the order of the server", async () => {
  server.runs = ["a", "b", "c"].map((id) => summary(id, "1", { started: "" }));
  await source.poll();
  assert.deepEqual(source.runs().map(({ id }) => id), ["a", "b", "c"]);
});

test("a killed run is polled no more often than an ended run", async () => {
  const running = (written) => [summary("a", String(written), { state: "running", written })];
  server.runs = running(Date.now());
  const active = await source.poll();
  server.runs = running(Date.now() - 3_600_000);
  const killed = await source.poll();
  assert.ok(killed > active, `${killed} ms, ${active} ms`);
});

test("listeners are called for changes and for nothing else", async () => {
  await source.poll();
  assert.equal(changes, 0);
  server.runs = [summary("a", "1")];
  await source.poll();
  await source.poll();
  assert.equal(changes, 1);
  server.runs = [summary("a", "2")];
  await source.poll();
  assert.equal(changes, 2);
});

test("a run stays the same object", async () => {
  server.runs = [summary("a", "1")];
  await source.poll();
  const [run] = source.runs();
  server.runs = [summary("a", "2", { index: 3, state: "interrupted" })];
  await source.poll();
  assert.equal(source.runs()[0], run);
  assert.equal(run.state, "interrupted");
});

test("a manifest is stale once the server has a newer version", async () => {
  server = { runs: [summary("a", "1", { state: "running" })], "runs/a": manifest({ state: "running" }) };
  await source.poll();
  const [run] = source.runs();
  assert.equal(run.stale, false);
  assert.equal(await source.manifest("a"), run.manifest);
  server = { runs: [summary("a", "2")], "runs/a": manifest() };
  await source.poll();
  assert.equal(run.stale, true);
  await source.manifest("a");
  assert.deepEqual([run.stale, run.state], [false, "finished"]);
});

test("a manifest is stale after each list without a version", async () => {
  server = { runs: [summary("a", null)], "runs/a": manifest() };
  await source.poll();
  await source.manifest("a");
  assert.equal(source.runs()[0].stale, false);
  await source.poll();
  assert.equal(source.runs()[0].stale, true);
});

test("a manifest is stale if a newer version is listed while it is read", async () => {
  server = { runs: [summary("a", "1")], "runs/a": manifest() };
  await source.poll();
  const reading = source.manifest("a");
  server = { ...server, runs: [summary("a", "2")] };
  await source.poll();
  await reading;
  assert.equal(source.runs()[0].stale, true);
});

test("a run that the server no longer has is gone until the server has it again", async () => {
  server.runs = [summary("a", "1", { state: "running" })];
  await source.poll();
  server.runs = [];
  await source.poll();
  assert.deepEqual(source.runs().map(({ gone }) => gone), [true]);
  server.runs = [summary("a", "1", { state: "running" })];
  await source.poll();
  assert.deepEqual([source.runs()[0].gone, source.runs()[0].state, changes], [false, "running", 3]);
});

test("runs and manifests stay when the server has ended", async () => {
  server = { runs: [summary("a", "1")], "runs/a": manifest() };
  await source.poll();
  await source.manifest("a");
  server = null;
  await source.poll();
  assert.deepEqual([source.reachable, source.runs().length, source.runs()[0].gone], [false, 1, false]);
  assert.equal(await source.manifest("a"), null);
  assert.ok(source.runs()[0].manifest);
  server = { runs: [summary("a", "1")] };
  await source.poll();
  assert.equal(source.reachable, true);
});

test("the server is polled more often while a run is running", async () => {
  server.runs = [summary("a", "1")];
  const idle = await source.poll();
  server.runs = [summary("a", "2", { state: "running" })];
  assert.ok((await source.poll()) < idle);
  server.runs = [];
  assert.equal(await source.poll(), idle);
});

test("the address of a picture contains its time, because a step may be written twice", () => {
  assert.equal(source.picture("a", "step_0001.png", 1.5), "runs/a/step_0001.png?at=1.5");
  assert.equal(source.picture("a/b", "../x.png", null), "runs/a%2Fb/..%2Fx.png");
});

test("a run that was never listed cannot be read", async () => {
  assert.equal(await source.manifest("unknown"), null);
  assert.deepEqual(requests, []);
});
