/** The names of exported files. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { frameAddress } from "../../web/animation-frames.mjs";
import { exportFileName, ImageExport, namedFile } from "../../web/export.mjs";

const shown = { run: { id: "0123456789ab" }, step: { index: 7 }, item: null };

test("a file name has the run, the step and the frame of a video", () => {
  const name = (address) => exportFileName({ ...shown, addresses: [address] }, address);
  assert.equal(name("/runs/a/step_0007.jpg?at=1.5"), "01234567_step_0007.jpg");
  assert.equal(name("./step_0007.webp"), "01234567_step_0007.webp");
  assert.equal(name(frameAddress("/runs/a/step_0007.webp?at=1.5", 11)), "01234567_step_0007_frame_0012.png");
  assert.equal(name("/runs/a/step"), "01234567_step_0007.png");
});

test("each picture of a batch has its own name, whether all are saved or only the selected one", () => {
  const addresses = ["/runs/a/step_0007_item_01.jpg?at=1.5", "/runs/a/step_0007_item_02.jpg?at=1.5"];
  assert.equal(exportFileName({ ...shown, addresses }, addresses[1]), "01234567_step_0007_item_02.jpg");
  assert.equal(exportFileName({ ...shown, addresses: [addresses[1]], item: 1 }, addresses[1]), "01234567_step_0007_item_02.jpg");
});

test("a frame that cannot be loaded is not saved, and the user reads why", async () => {
  const said = [];
  const document = { defaultView: { location: { protocol: "http:" } } };
  const images = { get: async () => null };
  await new ImageExport(document, images, (text) => said.push(text)).save({ ...shown, addresses: [frameAddress("/runs/a/step_0007.webp", 2)] });
  assert.deepEqual(said, ["Not saved: no picture"]);
});

test("the server names the file that it gives", () => {
  assert.equal(namedFile("inline; filename*=UTF-8''na%C3%AFve_seed4_step_0007.png"), "naïve_seed4_step_0007.png");
  assert.equal(namedFile(null), "picture.png");
});
