/** What is taken out of the viewer. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { frameAddress } from "../../web/animation-frames.mjs";
import { nameOfFile } from "../../web/export.mjs";

const shown = { run: { id: "0123456789ab" }, step: { index: 7 }, item: null };

test("a file is named by its run, its step and, of a video, its frame", () => {
  const named = (address) => nameOfFile({ ...shown, addresses: [address] }, address);
  assert.equal(named("/runs/a/step_0007.jpg?at=1.5"), "01234567_step_0007.jpg");
  assert.equal(named("./step_0007.webp"), "01234567_step_0007.webp");
  assert.equal(named(frameAddress("/runs/a/step_0007.webp?at=1.5", 11)), "01234567_step_0007_frame_0012.png");
  assert.equal(named("/runs/a/step"), "01234567_step_0007.png");
});

test("each picture of a batch has a name of its own, whether all are saved or the one that was chosen", () => {
  const addresses = ["/runs/a/step_0007_item_01.jpg?at=1.5", "/runs/a/step_0007_item_02.jpg?at=1.5"];
  assert.equal(nameOfFile({ ...shown, addresses }, addresses[1]), "01234567_step_0007_item_02.jpg");
  assert.equal(nameOfFile({ ...shown, addresses: [addresses[1]], item: 1 }, addresses[1]), "01234567_step_0007_item_02.jpg");
});
