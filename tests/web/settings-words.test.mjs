/** The settings of the node in one line. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { settingsWords } from "../../web/settings-words.mjs";

const DEFAULTS = {
  decoder: "auto", show: "denoised", every_n_steps: 1, max_side_px: 1024, write_intermediates: false, filename_prefix: "safelight/steps",
  file_format: "png", enlarge: "off", batch: "grid", frames: "first", keep_latents: false, sheet: false, animation: "off", min_interval_s: 0,
  stop_below_percent: 0, stop_after_steps: 3, send_previews: false,
};
const words = (values = {}, { unused = [], linked = [] } = {}) =>
  settingsWords({
    valueOf: (name) => (linked.includes(name) ? undefined : { ...DEFAULTS, ...values }[name]),
    defaultOf: (name) => DEFAULTS[name],
    isLinked: (name) => linked.includes(name),
    unused: new Set(unused),
    labelOf: (decoder) => (decoder === "full" ? "full VAE" : decoder),
  });

test("at the defaults the line names three settings", () => {
  assert.equal(words(), "auto · denoised · every step");
});

test("the line says in words what is changed", () => {
  assert.equal(words({ decoder: "full", show: "both", every_n_steps: 3 }), "full VAE · denoised and noisy · every 3 steps");
  assert.equal(words({ write_intermediates: true, file_format: "webp", sheet: true, animation: "mp4" }), "auto · denoised · every step · writes files · as WebP · contact sheet · mp4 animation");
  assert.equal(words({ max_side_px: 0, min_interval_s: 0.5, frames: "animated", keep_latents: true }), "auto · denoised · every step · at most every 0.5 s · any size · animated · keeps latents");
  assert.equal(words({ stop_below_percent: 0.5, stop_after_steps: 5 }), "auto · denoised · every step · stops below 0.5 % · after 5 steps");
  assert.equal(words({ send_previews: true }), "auto · denoised · every step · sends previews");
});

test("a setting without effect is left out, one from a link is named", () => {
  assert.equal(words({ file_format: "webp" }, { unused: ["file_format"] }), "auto · denoised · every step");
  assert.equal(words({}, { linked: ["decoder", "max_side_px"] }), "decoder by link · denoised · every step · max_side_px by link");
});
