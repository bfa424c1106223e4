/** What a run has written. */

import assert from "node:assert/strict";
import test from "node:test";
import { readManifest } from "../../web/sanitize.mjs";
import { writtenActions, writtenLabel } from "../../web/written-files.mjs";

const WRITTEN = { place: "output/safelight/steps_00012", path: "/home/a/output/safelight/steps_00012", files: 12, sheet: "sheet.png", animation: null, page: "index.html" };
const manifest = (written) => readManifest({ steps: [], written });

test("the label has the number of files and the folder as the user knows it", () => {
  assert.equal(writtenLabel(manifest(WRITTEN)), "12 files in output/safelight/steps_00012");
  assert.equal(writtenLabel(manifest({ ...WRITTEN, files: 1 })), "1 file in output/safelight/steps_00012");
  for (const none of [undefined, null, "x", {}, { ...WRITTEN, files: 0 }, { ...WRITTEN, path: 3 }]) assert.equal(writtenLabel(manifest(none)), "");
  assert.equal(writtenLabel(null), "");
});

test("the menu copies the path and opens what exists", () => {
  const opened = [];
  const document = { defaultView: { open: (address) => opened.push(address) } };
  const source = { written: (id, file) => `/${id}/${file}` };
  const entries = (written, from = source) => writtenActions(document, from, async () => "copied")({ run: { id: "r", manifest: manifest(written) } });
  assert.deepEqual(entries(WRITTEN).map(({ label }) => label), ["Copy the path of the folder", "Open the contact sheet", "Open the page of this run"]);
  entries(WRITTEN).slice(1).forEach(({ run }) => run());
  assert.deepEqual(opened, ["/r/sheet.png", "/r/index.html"]);
  assert.deepEqual(entries(WRITTEN, {}).length, 1);
  assert.deepEqual(entries(undefined), []);
});
