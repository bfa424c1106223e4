/** The page around the viewer: its source of one run, and its texts. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { secondsPerStep } from "../../web/manifest.mjs";
import { embeddedSource, folderName, runSummary, unfinishedNote } from "../../web/page.mjs";

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

test("the source has the run of the manifest", async () => {
  const saved = manifest();
  const source = embeddedSource([saved]);
  const [run] = source.runs();
  assert.deepEqual({ ...run, manifest: null }, {
    ...{ id: "a", state: "finished", index: 3, total: 3, gone: false, manifest: null },
    started: Date.parse("2026-01-02T03:04:05Z"),
    written: Date.parse("2026-01-02T03:04:05Z") + 1000 * (saved.seconds ?? 0),
  });
  assert.equal(run.manifest, saved);
  assert.equal(await source.manifest("a"), saved);
  assert.equal(source.runs()[0], run);
  assert.doesNotThrow(source.onChange(() => assert.fail("nothing changes")));
});

test("the address of a picture stays in the folder of the page, whatever its name", () => {
  const { picture } = embeddedSource([manifest()]);
  const at = (file) => new URL(picture("a", file, 1), "file:///runs/one/index.html").href;
  assert.equal(at("step_0001.png"), "file:///runs/one/step_0001.png");
  for (const file of ["../two/x.png", "/etc/x.png", "https://example.com/x.png", "javascript:alert(1)", "x.png?y#z", "//h/x.png"]) {
    assert.ok(at(file).startsWith("file:///runs/one/"), `${file} leads to ${at(file)}`);
    assert.equal(decodeURIComponent(new URL(at(file)).pathname), `/runs/one/${file}`);
  }
});

test("runs of one prompt are listed newest first, each with the pictures in its folder", async () => {
  const source = embeddedSource([manifest(), manifest({ id: "b", folder: "run_002" }), manifest({ id: "c", folder: "run_003" })]);
  assert.deepEqual(source.runs().map(({ id }) => id), ["c", "b", "a"]);
  assert.equal((await source.manifest("b")).folder, "run_002");
  assert.equal(await source.manifest("z"), null);
  assert.deepEqual(["a", "b", "c"].map((id) => source.picture(id, "step_0001.png", 1)), [
    "./step_0001.png",
    "./run_002/step_0001.png",
    "./run_003/step_0001.png",
  ]);
});

test("a folder with another name than that of a further run is not used", () => {
  for (const folder of ["..", "../run_002", "run_002/..", "/run_002", "https://example.com/run_002", 2, null, ["run_002", ".."]]) {
    assert.equal(embeddedSource([manifest({ folder })]).picture("a", "x.png", 1), "./x.png");
  }
});

test("a manifest with few values is shown", () => {
  const [run] = embeddedSource([manifest({ steps: [], sampler: {}, started: "", state: "running" })]).runs();
  assert.deepEqual([run.index, run.total, run.started], [null, null, 0]);
});

test("a page of an unfinished run gives no estimate of the time left", async () => {
  const [run] = embeddedSource([manifest({ state: "running" })]).runs();
  assert.deepEqual([run.state, run.index], ["running", 3]);
  assert.equal(secondsPerStep(run.manifest), null);
  assert.notEqual(secondsPerStep(manifest()), null);
});

// Texts

test("a page of an unfinished run has a note about its age", () => {
  assert.equal(unfinishedNote(manifest()), "");
  assert.match(unfinishedNote(manifest({ state: "running" })), /at step 3 of 3\. Reload/);
  assert.match(unfinishedNote(manifest({ state: "running", steps: [], sampler: {} })), /before its first step/);
});

test("the summary of a run is one line of its known values", () => {
  const line = runSummary(manifest());
  assert.ok(line.endsWith("3 steps · euler, normal · seed 7 · cfg 4.5"), line);
  assert.equal(runSummary(manifest({ started: "", sampler: { seed: 0 } })), "seed 0");
});

test("the name of the last folder is decoded", () => {
  assert.equal(folderName("/a/my%20run/index.html"), "my run");
  assert.equal(folderName("/C:/runs/100%/index.html"), "100%");
  assert.equal(folderName("/"), "");
});
