/** The inputs of the node that have no effect. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { unusedInputs } from "../../web/input-visibility.mjs";

const DEFAULTS = { decoder: "auto", write_intermediates: false, animation: "off", frames: "first", batch: "grid", stop_below_percent: 0 };
const unused = (values, latents) => unusedInputs((name) => ({ ...DEFAULTS, ...values })[name], latents);

test("inputs for files are unused until files are written", () => {
  for (const name of ["filename_prefix", "file_format", "enlarge", "sheet", "animation", "write_csv"]) {
    assert.ok(unused({}).has(name), name);
    assert.ok(!unused({ write_intermediates: true }).has(name), name);
  }
});

test("inputs for an animation are unused until one is written", () => {
  assert.ok(unused({ write_intermediates: true }).has("animation_fps"));
  assert.ok(unused({ animation: "webp" }).has("animation_fps"), "no files are written");
  assert.deepEqual(unused({ write_intermediates: true, animation: "webp" }), new Set(["vae", "full_every_n_steps", "stop_after_steps"]));
});

test("the number of steps of the rule is unused without a limit", () => {
  assert.ok(unused({}).has("stop_after_steps"));
  assert.ok(!unused({ stop_below_percent: 0.5 }).has("stop_after_steps"));
});

test("the VAE and the interval of its decodes are used by the decoder full", () => {
  for (const name of ["vae", "full_every_n_steps"]) {
    assert.ok(unused({}).has(name), name);
    assert.ok(!unused({ decoder: "full" }).has(name), name);
  }
});

test("an input that depends on a linked input is used", () => {
  assert.deepEqual(unused({ write_intermediates: undefined, animation: undefined, decoder: undefined, stop_below_percent: undefined }), new Set());
});

test("inputs for the viewer are always used", () => {
  for (const name of ["decoder", "show", "every_n_steps", "max_side_px", "write_intermediates", "batch", "frames", "keep_latents", "min_interval_s", "stop_below_percent"]) {
    assert.ok(!unused({}).has(name), name);
  }
});

test("the choice of frames is unused for still images, the choice of pictures for a single one", () => {
  const shown = (latents, values) => ["frames", "batch"].filter((name) => !unused(values, latents).has(name));
  assert.deepEqual(shown(null), ["frames", "batch"]);
  assert.deepEqual(shown({ items: 1, frames: 1 }), []);
  assert.deepEqual(shown({ items: 4, frames: 1 }), ["batch"]);
  assert.deepEqual(shown({ items: 1, frames: 13 }), ["frames"]);
  assert.deepEqual(shown({ items: 1, frames: 1 }, { frames: "all files", batch: undefined }), ["frames", "batch"], "the user has changed one and linked the other");
});
