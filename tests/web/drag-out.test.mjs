/** The names of pictures that are dragged away. */

import assert from "node:assert/strict";
import test from "node:test";
import { frameAddress } from "../../web/animation-frames.mjs";
import { draggedName } from "../../web/drag-out.mjs";

const shown = (address, more = {}) => ({ run: { id: "0123456789", manifest: { prefix: "steps", sampler: { seed: 7 } } }, step: { index: 8 }, addresses: [address], exports: ["/x"], item: null, ...more });

test("a picture has the name that the server gives it when it is saved", () => {
  assert.equal(draggedName(shown("/api/safelight/runs/a/step_0008_item_02.jpg?at=1.5"), 0), "steps_seed7_step_0008_item_02.png");
  assert.equal(draggedName(shown(frameAddress("/runs/a/step_0008.webp?at=1", 2)), 0), "steps_seed7_step_0008_frame_0003.png");
});

test("without a server that names files it has the name of a saved picture", () => {
  assert.equal(draggedName(shown("./step_0008.png", { exports: undefined }), 0), "01234567_step_0008.png");
  const old = shown("/runs/a/step_0008.jpg");
  old.run.manifest = { sampler: {} };
  assert.equal(draggedName(old, 0), "01234567_step_0008.jpg");
});
