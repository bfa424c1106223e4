/** The workflow of a run is saved as a file, on a page outside its host. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { workflowFileName, workflowSaver } from "../../web/library-workflow.mjs";

const entry = { id: "0123456789ab", folder: "safelight/steps_00001", host: "invokeai" };

function pageOf() {
  const saved = [];
  const link = () => ({ dataset: {}, style: {}, append() {}, click() { saved.push([this.href, this.download]); } });
  const URL = { createObjectURL: (blob) => `blob:${blob}`, revokeObjectURL() {} };
  return { saved, createElement: link, defaultView: { URL } };
}

test("the file has the name of the run's folder", () => {
  assert.equal(workflowFileName(entry), "steps_00001_workflow.json");
  assert.equal(workflowFileName({ ...entry, folder: "at night/été 1" }), "été_1_workflow.json");
  assert.equal(workflowFileName({ ...entry, folder: "..\\..:x" }), "_.._x_workflow.json");
  for (const folder of [null, ".", ""]) assert.equal(workflowFileName({ ...entry, folder }), "01234567_workflow.json");
});

test("it is fetched, saved, and the message says how the host opens it", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const asked = [];
  const request = async (path) => (asked.push(path), { ok: true, blob: async () => "json" });
  const page = pageOf();
  const save = workflowSaver(page, request, "library");
  assert.match(await save(entry), /^Saved steps_00001_workflow\.json\. In InvokeAI, open the tab Workflows/);
  assert.match(await save({ ...entry, host: "comfyui" }), /Drag the file onto ComfyUI$/);
  assert.equal(await save({ ...entry, host: "elsewhere" }), "Saved steps_00001_workflow.json");
  assert.equal(asked[0], "library/0123456789ab/workflow");
  assert.deepEqual(page.saved[0], ["blob:json", "steps_00001_workflow.json"]);
});

test("what is missing is said", async () => {
  const save = (request) => workflowSaver(pageOf(), request, "library")(entry);
  await assert.rejects(() => save(async () => ({ ok: false })), /its picture is gone/);
  await assert.rejects(() => save(async () => Promise.reject(new Error("network"))), /server cannot be reached/);
});
