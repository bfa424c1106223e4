/** Which inputs of the node are folded away. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { idleInputs } from "../../web/input-visibility.mjs";

const AS_IT_COMES = { decoder: "auto", write_intermediates: false, animation: "off" };
const idle = (values) => idleInputs((name) => ({ ...AS_IT_COMES, ...values })[name]);

test("what only concerns files is idle until files are written", () => {
  for (const name of ["filename_prefix", "file_format", "enlarge", "sheet", "animation"]) {
    assert.ok(idle({}).has(name), name);
    assert.ok(!idle({ write_intermediates: true }).has(name), name);
  }
});

test("how an animation goes matters where there is to be one", () => {
  assert.ok(idle({ write_intermediates: true }).has("animation_fps"));
  assert.ok(idle({ animation: "webp" }).has("animation_fps"), "nothing is written");
  assert.deepEqual(idle({ write_intermediates: true, animation: "webp" }), new Set(["full_every_n_steps"]));
});

test("how often the VAE decodes matters for the decoder full", () => {
  assert.ok(!idle({ decoder: "full" }).has("full_every_n_steps"));
});

test("nothing is idle that depends on what another node will say", () => {
  assert.deepEqual(idle({ write_intermediates: undefined, animation: undefined, decoder: undefined }), new Set());
});

test("what the viewer shows is never idle", () => {
  for (const name of ["decoder", "show", "every_n_steps", "max_side_px", "write_intermediates", "batch", "frames", "keep_latents"]) {
    assert.ok(!idle({}).has(name), name);
  }
});
