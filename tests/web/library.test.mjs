/** The runs of a library: what is read, searched, sorted, and asked of a server. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { EmbeddedRuns } from "../../web/embedded-runs.mjs";
import { facts, readEntry, spokenLabel, tooltip } from "../../web/library-entry.mjs";
import { matcher, shownEntries, SORTS } from "../../web/library-query.mjs";
import { ServerRuns } from "../../web/library-source.mjs";

const item = (id, more = {}) => ({
  id,
  state: "finished",
  started: "2026-11-30T10:00:00+00:00",
  written: Date.parse("2026-11-30T10:00:12+00:00"),
  version: "1",
  space: "flux2",
  decoder: { name: "flux2-conv-small" },
  picture: { shown_width: 1024, shown_height: 768 },
  sampler: { seed: 42, name: "euler", scheduler: "normal", cfg: 7, steps: 20 },
  steps: 20,
  index: 20,
  total: 20,
  thumbnail: "step_0020.png",
  at: 11,
  prompt: "A lighthouse at dawn",
  model: "sdxl/dream.safetensors",
  folder: "safelight/steps_00012",
  files: 20,
  note: "",
  star: false,
  ...more,
});
const entry = (more) => readEntry(item("a", more));

test("an entry is read with the right types whatever a server sends", () => {
  for (const value of [null, 5, "x", [], {}, { id: 5 }, { id: "" }]) assert.equal(readEntry(value), null);
  const odd = readEntry({ id: "a", state: {}, started: [], sampler: 5, picture: "x", prompt: {}, folder: 5, star: "yes", thumbnail: [], steps: "many", index: -1, at: "x", page: {}, model: [] });
  assert.deepEqual([odd.state, odd.started, odd.size, odd.prompt, odd.folder, odd.star, odd.thumbnail, odd.pictured, odd.index, odd.at, odd.model], ["failed", 0, null, "", null, false, null, 0, null, null, ""]);
  assert.equal(tooltip(odd), "");
  assert.deepEqual(facts(odd), []);
});

test("the tooltip has date, seed, sampler, cfg, model and the first words of the prompt", () => {
  const lines = tooltip(entry({ prompt: `a  lighthouse\n${"at dawn ".repeat(40)}`, note: "the best" })).split("\n");
  assert.match(lines[0], /2026/);
  assert.equal(lines[1], "seed 42 · euler normal · cfg 7");
  assert.equal(lines[2], "dream");
  assert.match(lines[3], /^a lighthouse at dawn .*…$/);
  assert.equal(lines[3].length, 90);
  assert.equal(lines[4], "Note: the best");
});

test("a screen reader says what a tile shows by signs", () => {
  assert.match(spokenLabel(entry({ star: true, note: "x", live: true, state: "interrupted" })), /A lighthouse at dawn, canceled, starred, has a note, not saved$/);
});

test("the details name each known fact once", () => {
  const rows = Object.fromEntries(facts(entry()));
  assert.deepEqual([rows.Seed, rows.Sampler, rows.Size, rows.Model, rows.Time, rows.Folder], ["42", "euler normal", "1024×768", "dream", "12 s", "safelight/steps_00012"]);
});

// Search

const found = (query, more) => matcher(query)(entry(more));

test("words are searched in all that a run says, in any order and case", () => {
  for (const query of ["", "  ", "lighthouse", "DAWN light", "dream", "euler normal", "42", "2026-11-30", "conv small", "steps_00012", "1024x768", '"at dawn"']) assert.ok(found(query), query);
  for (const query of ["sunset", "dawn sunset", '"dawn at"', "43"]) assert.ok(!found(query), query);
});

test("a term with a name searches one field; numbers are whole", () => {
  for (const query of ["seed:42", "prompt:dawn", "model:dream", "sampler:euler", "scheduler:norm", "date:2026-11", "decoder:flux2", "folder:safelight", "steps:20", "cfg:7", "is:saved", 'prompt:"at dawn"', "is:finished"]) assert.ok(found(query), query);
  for (const query of ["seed:4", "prompt:dream", "sampler:heun", "date:2025", "is:starred", "steps:2"]) assert.ok(!found(query), query);
  assert.ok(found("is:starred is:live note:best", { star: true, live: true, note: "the best" }));
});

test("a minus excludes; an unknown name is a word", () => {
  assert.ok(found("-sunset -seed:43"));
  assert.ok(!found("lighthouse -dawn"));
  assert.ok(found("ratio:16:9", { prompt: "a picture, ratio:16:9" }));
});

test("no search raises, and none takes a text for a pattern", () => {
  for (const query of ['"', "seed:", ":", "-", '-"', "[a-", "(", "\\", "constructor:x", "__proto__:x", "*"]) assert.equal(typeof found(query), "boolean", query);
  assert.ok(!found(".*"));
});

test("runs are sorted, those without the fact last, equal ones newest first", () => {
  const at = (day, more) => readEntry(item(day, { started: `2026-11-${day}T10:00:00+00:00`, ...more }));
  const entries = [at("03", { folder: "b" }), at("02", { folder: null, star: true }), at("01", { folder: "a10", sampler: { seed: 9 } }), at("04", { folder: "a9", sampler: { seed: 10 } })];
  const order = (sort) => shownEntries(entries, { query: "", sort, starred: false }).map(({ id }) => id);
  assert.deepEqual(order("newest"), ["04", "03", "02", "01"]);
  assert.deepEqual(order("oldest"), ["01", "02", "03", "04"]);
  assert.deepEqual(order("folder"), ["04", "01", "03", "02"]);
  assert.deepEqual(order("starred"), ["02", "04", "03", "01"]);
  assert.deepEqual(order("seed"), ["01", "04", "03", "02"]);
  assert.deepEqual(order("nonsense"), order("newest"));
  assert.deepEqual(shownEntries(entries, { query: "", sort: "newest", starred: true }).map(({ id }) => id), ["02"]);
  assert.ok(Object.values(SORTS).every(({ label }) => label));
});

test("5,000 runs are searched within a limit of looks at each", () => {
  let looks = 0;
  const entries = Array.from({ length: 5000 }, (_, i) => {
    const one = entry({ prompt: `lighthouse ${i}` });
    const { prompt } = one;
    return Object.defineProperty(one, "prompt", { get: () => (looks++, prompt) });
  });
  for (const query of ["l", "li", "lighthouse 49"]) shownEntries(entries, { query, sort: "newest", starred: false });
  assert.equal(looks, 5000, "the text of a run is prepared once");
});

// The server

/** A server with answers by path, and the requests that it got. */
function serverOf(answers) {
  const requests = [];
  const runs = new ServerRuns(
    async (path, options = {}) => {
      requests.push(options.method ? `${options.method} ${path} ${options.body}` : path);
      const answer = answers[path];
      if (answer === undefined) throw new Error("unreachable");
      const { status = 200, ...value } = typeof answer === "function" ? answer() : answer;
      return { ok: status < 400, status, json: async () => (Array.isArray(answer) ? answer : value) };
    },
    "/library",
  );
  let changes = 0;
  runs.onChange(() => changes++);
  return { runs, requests, changes: () => changes };
}

const whole = (items, version = "e-1", total = items.length) => ({ whole: true, version, total, runs: items, removed: [], path: "/runs" });

test("a first page is asked for before the rest, then only changes", async () => {
  const { runs, requests, changes } = serverOf({
    "/library?limit=200": whole([item("b")], null, 2),
    "/library": whole([item("b"), item("a")]),
    "/library?since=e-1": { whole: false, version: "e-2", total: 2, runs: [item("c")], removed: ["a"] },
    "/library?since=e-2": { whole: false, version: "e-2", total: 2, runs: [], removed: [] },
  });
  await Promise.all([runs.poll(), runs.poll()]);
  assert.deepEqual(requests, ["/library?limit=200", "/library"]);
  const kept = runs.entries().find(({ id }) => id === "b");
  await runs.poll();
  assert.deepEqual(runs.entries().map(({ id }) => id).sort(), ["b", "c"]);
  assert.equal(runs.entries().find(({ id }) => id === "b"), kept, "an unchanged run is the same object");
  const before = changes();
  await runs.poll();
  assert.equal(changes(), before, "nothing changed, so no listener is notified");
});

test("a server that ends is noticed once, and the runs stay", async () => {
  const answers = { "/library?limit=200": whole([item("a")]) };
  const { runs, changes } = serverOf(answers);
  await runs.poll();
  await runs.poll();
  await runs.poll();
  assert.deepEqual([runs.reachable(), runs.entries().length, changes()], [false, 1, 2]);
});

test("a star is shown immediately; an error is in the server's words", async () => {
  const { runs, requests } = serverOf({
    "/library?limit=200": whole([item("a")]),
    "/library/a/star": { run: item("a", { star: true }) },
    "/library/a/note": { status: 409, error: "no room" },
  });
  await runs.poll();
  assert.equal((await runs.act("a", "star", { star: true })).done, true);
  assert.equal(runs.entries()[0].star, true);
  assert.ok(requests.includes('POST /library/a/star {"star":true}'));
  assert.deepEqual(await runs.act("a", "note", { note: "x" }), { done: false, text: "no room" });
  assert.match((await runs.act("a", "x")).text, /cannot be reached/);
});

test("a deleted run leaves the list, and undo asks for it again", async () => {
  const { runs, requests } = serverOf({
    "/library?limit=200": whole([item("a"), item("b")]),
    "/library?since=e-1": { whole: false, version: "e-1", total: 2, runs: [], removed: [] },
    "/library/a/delete": { undo: "token", text: "Run moved to the trash" },
    "/library/undo": { runs: ["a"] },
  });
  await runs.poll();
  assert.deepEqual(await runs.act("a", "delete"), { done: true, undo: "token", text: "Run moved to the trash" });
  assert.deepEqual(runs.entries().map(({ id }) => id), ["b"]);
  assert.equal((await runs.undo("token")).done, true);
  assert.ok(requests.includes('POST /library/undo {"undo":"token"}'));
});

test("a viewer gets runs whose manifest is read again when it changes", async () => {
  const manifest = { id: "a", state: "finished", steps: [{ index: 1, files: ["step_0001.png"] }] };
  const { runs } = serverOf({
    "/library?limit=200": whole([item("a"), item("b")]),
    "/library?since=e-1": { whole: false, version: "e-2", total: 2, runs: [item("a", { version: "2" })], removed: ["b"] },
    "/library/a": manifest,
  });
  await runs.poll();
  const source = runs.source(["a", "b", "unknown"]);
  assert.deepEqual(source.runs().map(({ id }) => id), ["a", "b"]);
  assert.equal((await source.manifest("a")).steps.length, 1);
  const [first, second] = source.runs();
  await runs.poll();
  assert.deepEqual([first.stale, second.gone], [true, true]);
  assert.equal(source.picture("a", "step 1.png", 0.5), "/library/a/step%201.png?at=0.5");
  assert.match(runs.small(runs.entries()[0]), /^\/library\/a\/small\/step_0020\.png\?at=11-2$/);
});

// A page without a server

test("pictures of a page are in its folder, and never outside", async () => {
  const saved = (folder) => ({ ...item("a", { folder }), manifest: { id: "a", state: "finished", steps: [{ index: 1, files: ["x.png"] }] } });
  const address = (folder) => new EmbeddedRuns([saved(folder)]).small(entry({ folder }));
  assert.equal(address("safe light/steps#1"), "./safe%20light/steps%231/step_0020.png");
  assert.equal(address("../.."), "./step_0020.png");
  assert.equal(address("/etc"), "./etc/step_0020.png");
  assert.equal(address("."), "./step_0020.png");
  const runs = new EmbeddedRuns([saved("s"), null, { id: 5 }]);
  assert.equal(runs.total(), 1);
  assert.equal((await runs.source(["a"]).manifest("a")).steps.length, 1);
  assert.equal(runs.source(["a"]).picture("a", "x.png"), "./s/x.png");
  assert.equal(runs.act, undefined);
});
