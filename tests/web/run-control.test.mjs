/** The buttons that act on a running run: what they may keep, and that one click does not end a run. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { isControlled, keptStep } from "../../web/run-control.mjs";

const run = (facts = {}) => ({ id: "r", state: "running", gone: false, index: 7, manifest: { control: { paused: false, kept: [2, 3] } }, ...facts });

test("only a running run whose host offers it is controlled", () => {
  assert.equal(isControlled(run()), true);
  for (const facts of [{ state: "finished" }, { gone: true }, { manifest: null }, { manifest: {} }]) assert.equal(isControlled(run(facts)), false);
  assert.equal(isControlled(undefined), false);
});

test("the newest step is kept as the one that ends next", () => {
  for (const index of [null, 7, 8]) assert.deepEqual(keptStep(run(), index), { step: null, why: "" });
});

test("an earlier step is kept if its latents are saved", () => {
  assert.deepEqual(keptStep(run(), 3), { step: 3, why: "" });
  assert.match(keptStep(run(), 5).why, /^Step 5 cannot be kept: .*keep_latents$/);
});
