/** The page around the viewer: where its runs come from, and what it says of them. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { secondsPerStep } from "../../web/manifest.mjs";
import { asOf, embedded, facts, nameOfFolder } from "../../web/page.mjs";
import { Polled } from "../../web/polling-source.mjs";

const manifest = (more = {}) => ({
  format: "safelight.run/1",
  id: "a",
  state: "finished",
  started: "2026-01-02T03:04:05.000+00:00",
  sampler: { steps: 3, seed: 7, cfg: 4.5, name: "euler", scheduler: "normal" },
  steps: [1, 2, 3].map((index) => ({ index, sigma: 1 / index, at: index, files: [`step_000${index}.png`] })),
  notes: [],
  ...more,
});

// One run, within the page

test("a run within the page is the one that its manifest says", async () => {
  const told = manifest();
  const source = embedded(told);
  const [run] = source.runs();
  assert.deepEqual({ ...run, manifest: null }, {
    ...{ id: "a", state: "finished", index: 3, total: 3, gone: false, manifest: null },
    started: Date.parse("2026-01-02T03:04:05Z"),
    written: Date.parse("2026-01-02T03:04:05Z") + 1000 * (told.seconds ?? 0),
  });
  assert.equal(run.manifest, told);
  assert.equal(await source.manifest("a"), told);
  assert.equal(source.runs()[0], run);
  assert.doesNotThrow(source.onChange(() => assert.fail("nothing changes")));
});

test("the addresses of pictures stay beside the page, whatever their names", () => {
  const { picture } = embedded(manifest());
  const at = (file) => new URL(picture("a", file, 1), "file:///runs/one/index.html").href;
  assert.equal(at("step_0001.png"), "file:///runs/one/step_0001.png");
  for (const file of ["../two/x.png", "/etc/x.png", "https://example.com/x.png", "javascript:alert(1)", "x.png?y#z", "//h/x.png"]) {
    assert.ok(at(file).startsWith("file:///runs/one/"), `${file} leads to ${at(file)}`);
    assert.equal(decodeURIComponent(new URL(at(file)).pathname), `/runs/one/${file}`);
  }
});

test("a run of which next to nothing is known is a run", () => {
  const [run] = embedded(manifest({ steps: [], sampler: {}, started: "", state: "running" })).runs();
  assert.deepEqual([run.index, run.total, run.started], [null, null, 0]);
});

test("a page that was written while the run went on makes no promise of when it ends", async () => {
  const [run] = embedded(manifest({ state: "running" })).runs();
  assert.deepEqual([run.state, run.index], ["running", 3]);
  assert.equal(secondsPerStep(run.manifest), null);
  assert.notEqual(secondsPerStep(manifest()), null);
});

// Runs that a server tells of

let server, asked, source, changes;

beforeEach(() => {
  server = { runs: [] };
  asked = [];
  source = new Polled(async (path) => {
    asked.push(path);
    if (server === null) throw new TypeError("Failed to fetch");
    return path in server ? Response.json(server[path]) : new Response("{}", { status: 404 });
  });
  changes = 0;
  source.onChange(() => changes++);
});

const summary = (id, version, more = {}) => ({
  ...{ id, version, state: "finished", started: `2026-01-0${id.charCodeAt(0) - 96}T00:00:00Z` },
  ...{ index: 3, total: 3, file: "step_0003.png", at: 3, ...more },
});

test("runs are newest first, with what their thumbnails need", async () => {
  server.runs = [summary("a", "1"), summary("b", "1", { file: null, at: null, index: null, state: "running" })];
  await source.look();
  const told = source.runs().map(({ id, state, index, total, thumbnail }) => ({ id, state, index, total, thumbnail }));
  assert.deepEqual(told, [
    { id: "b", state: "running", index: null, total: 3, thumbnail: null },
    { id: "a", state: "finished", index: 3, total: 3, thumbnail: { file: "step_0003.png", at: 3 } },
  ]);
});

test("a run that was killed is asked for no more often than one that has ended", async () => {
  const told = (written) => [summary("a", String(written), { state: "running", written })];
  server.runs = told(Date.now());
  const going = await source.look();
  server.runs = told(Date.now() - 3_600_000);
  const killed = await source.look();
  assert.ok(killed > going, `${killed} ms, ${going} ms`);
});

test("listeners are told of changes and of nothing else", async () => {
  await source.look();
  assert.equal(changes, 0);
  server.runs = [summary("a", "1")];
  await source.look();
  await source.look();
  assert.equal(changes, 1);
  server.runs = [summary("a", "2")];
  await source.look();
  assert.equal(changes, 2);
});

test("a run is the same object for as long as the page is open", async () => {
  server.runs = [summary("a", "1")];
  await source.look();
  const [run] = source.runs();
  server.runs = [summary("a", "2", { index: 3, state: "interrupted" })];
  await source.look();
  assert.equal(source.runs()[0], run);
  assert.equal(run.state, "interrupted");
});

test("what was read is stale once the server has a newer version", async () => {
  server = { runs: [summary("a", "1", { state: "running" })], "runs/a": manifest({ state: "running" }) };
  await source.look();
  const [run] = source.runs();
  assert.equal(run.stale, false);
  assert.equal(await source.manifest("a"), run.manifest);
  server = { runs: [summary("a", "2")], "runs/a": manifest() };
  await source.look();
  assert.equal(run.stale, true);
  await source.manifest("a");
  assert.deepEqual([run.stale, run.state], [false, "finished"]);
});

test("what became newer while it was being read is stale", async () => {
  server = { runs: [summary("a", "1")], "runs/a": manifest() };
  await source.look();
  const reading = source.manifest("a");
  server = { ...server, runs: [summary("a", "2")] };
  await source.look();
  await reading;
  assert.equal(source.runs()[0].stale, true);
});

test("a run that the server has no more is gone, and back if it comes back", async () => {
  server.runs = [summary("a", "1")];
  await source.look();
  server.runs = [];
  await source.look();
  assert.deepEqual(source.runs().map(({ gone }) => gone), [true]);
  server.runs = [summary("a", "1")];
  await source.look();
  assert.deepEqual([source.runs()[0].gone, changes], [false, 3]);
});

test("a server that has ended takes nothing away", async () => {
  server = { runs: [summary("a", "1")], "runs/a": manifest() };
  await source.look();
  await source.manifest("a");
  server = null;
  await source.look();
  assert.deepEqual([source.reached, source.runs().length, source.runs()[0].gone], [false, 1, false]);
  assert.equal(await source.manifest("a"), null);
  assert.ok(source.runs()[0].manifest);
  server = { runs: [summary("a", "1")] };
  await source.look();
  assert.equal(source.reached, true);
});

test("the server is asked more often while a run goes on", async () => {
  server.runs = [summary("a", "1")];
  const quiet = await source.look();
  server.runs = [summary("a", "2", { state: "running" })];
  assert.ok((await source.look()) < quiet);
  server.runs = [];
  assert.equal(await source.look(), quiet);
});

test("a picture's address holds its time: a step may be written twice", () => {
  assert.equal(source.picture("a", "step_0001.png", 1.5), "runs/a/step_0001.png?at=1.5");
  assert.equal(source.picture("a/b", "../x.png", null), "runs/a%2Fb/..%2Fx.png");
});

test("a run that nobody told of cannot be read", async () => {
  assert.equal(await source.manifest("nobody"), null);
  assert.deepEqual(asked, []);
});

// Words

test("a page that was written while the run went on says so", () => {
  assert.equal(asOf(manifest()), "");
  assert.match(asOf(manifest({ state: "running" })), /at step 3 of 3\. Reload/);
  assert.match(asOf(manifest({ state: "running", steps: [], sampler: {} })), /before its first step/);
});

test("the facts of a run are in one line, without what is not known", () => {
  const line = facts(manifest());
  assert.ok(line.endsWith("3 steps · euler, normal · seed 7 · cfg 4.5"), line);
  assert.equal(facts(manifest({ started: "", sampler: { seed: 0 } })), "seed 0");
});

test("a folder has its own name", () => {
  assert.equal(nameOfFolder("/a/my%20run/index.html"), "my run");
  assert.equal(nameOfFolder("/C:/runs/100%/index.html"), "100%");
  assert.equal(nameOfFolder("/"), "");
});
