/** Which of ComfyUI's previews show a watched sampler a second time. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { WatchedSamplers, withoutNode } from "../../web/sampler-previews.mjs";

test("a sampler is watched from the begin of its run to the end", () => {
  const watched = new WatchedSamplers();
  assert.equal(watched.has({ nodeId: "3" }), false);
  watched.receive({ run: "a", state: "running", sampler: "3" });
  assert.equal(watched.has({ nodeId: "3", displayNodeId: "3" }), true);
  assert.equal(watched.has({ nodeId: "4", displayNodeId: "4" }), false);
  for (const state of ["finished", "interrupted", "failed"]) {
    watched.receive({ run: "a", state: "running", sampler: "3" });
    watched.receive({ run: "a", state, sampler: "3" });
    assert.equal(watched.has({ nodeId: "3" }), false, state);
  }
});

test("a sampler in a subgraph or a loop is known by either id", () => {
  const watched = new WatchedSamplers();
  watched.receive({ run: "a", state: "running", sampler: "5:3" });
  assert.equal(watched.has({ nodeId: "5:3.0.0.9", displayNodeId: "5:3" }), true);
  assert.equal(watched.has({ nodeId: "5:3", displayNodeId: "5" }), true);
});

test("a hidden preview names no node, and keeps its picture and its job", () => {
  const watched = new WatchedSamplers();
  watched.receive({ run: "a", state: "running", sampler: "3" });
  const hidden = withoutNode({ nodeId: "3", displayNodeId: "3", blob: "picture", jobId: "j" });
  assert.deepEqual([hidden.blob, hidden.jobId, watched.has(hidden)], ["picture", "j", false]);
});

test("an event without a sampler, as of an older server, watches none", () => {
  const watched = new WatchedSamplers();
  for (const event of [{}, { run: "a", state: "running" }, { run: "a", state: "running", sampler: null }]) watched.receive(event);
  assert.equal(watched.has({ nodeId: "undefined" }), false);
  assert.equal(watched.has(undefined), false);
});

test("runs that never report their end are forgotten", () => {
  const watched = new WatchedSamplers();
  for (let i = 0; i < 60; i++) watched.receive({ run: `run ${i}`, state: "running", sampler: i });
  assert.equal(watched.has({ nodeId: 0 }), false);
  assert.equal(watched.has({ nodeId: 59 }), true);
});
