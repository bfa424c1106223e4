/** What is taken out of the viewer. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { frameAddress } from "../../web/frames.mjs";
import { nameOfFile } from "../../web/taking.mjs";

test("a file is named by its run, its step and, of a video, its frame", () => {
  const named = (address) => nameOfFile({ run: { id: "0123456789ab" }, step: { index: 7 }, address });
  assert.equal(named("/runs/a/step_0007.jpg?at=1.5"), "01234567_step_0007.jpg");
  assert.equal(named("./step_0007.webp"), "01234567_step_0007.webp");
  assert.equal(named(frameAddress("/runs/a/step_0007.webp?at=1.5", 11)), "01234567_step_0007_frame_0012.png");
  assert.equal(named("/runs/a/step"), "01234567_step_0007.png");
});
