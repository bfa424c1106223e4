/** Says in a few words what the inputs of the node are set to. */

import { later, plural, t } from "./language.mjs";

/** @type {Record<string, string>} */
const SHOWN = { denoised: later("denoised"), noisy: later("noisy"), both: later("denoised and noisy") };
/** @type {Record<string, string>} */
const FRAMES = { middle: later("middle frame"), animated: later("animated"), "all files": later("a file for each frame") };
/** @type {Record<string, string>} */
const FILE_NAMES = { png: "PNG", webp: "WebP", jpg: "JPEG" };

/**
 * The words for an input by its value, whose type is that of the input.
 *
 * @typedef {(value: any, labelOf: (decoder: string) => string) => string} Words
 */

/** The words for an input that the line always names. @type {Record<string, Words>} */
const ALWAYS = {
  decoder: (value, labelOf) => labelOf(value),
  show: (value) => (t(SHOWN[value] ?? value)),
  every_n_steps: (value) => (value === 1 ? t("every step") : plural(value, "every {count} step", "every {count} steps")),
};

/** The words for an input that the line names if it is not at its default. @type {Record<string, Words>} */
const CHANGED = {
  min_interval_s: (value) => t("at most every {count} s", { count: value }),
  max_side_px: (value) => (value ? t("up to {count} px", { count: value }) : t("any size")),
  full_every_n_steps: (value) => plural(value, "VAE every {count} step", "VAE every {count} steps"),
  batch: (value) => (value === "first" ? t("first of the batch") : t("a file for each picture")),
  frames: (value) => t(FRAMES[value] ?? value),
  keep_latents: () => t("keeps latents"),
  write_intermediates: () => t("writes files"),
  filename_prefix: (value) => t("to {path}", { path: value }),
  file_format: (value) => t("as {format}", { format: FILE_NAMES[value] ?? value }),
  enlarge: (value) => t("enlarged by {filter}", { filter: value }),
  sheet: () => t("contact sheet"),
  animation: (value) => t("{format} animation", { format: value }),
  animation_fps: (value) => plural(value, "{count} step per second", "{count} steps per second"),
  animation_hold_s: (value) => t("last held {count} s", { count: value }),
  animation_from_step: (value) => t("from step {step}", { step: value }),
  animation_to_step: (value) => t("to step {step}", { step: value }),
  write_csv: () => "steps.csv",
  stop_below_percent: (value) => t("stops below {count} %", { count: value }),
  stop_after_steps: (value) => plural(value, "after {count} step", "after {count} steps"),
  send_previews: () => t("sends previews"),
};

/**
 * The settings in one line, such as `auto · denoised · every step`. Inputs without effect are left out.
 *
 * @param {object} inputs
 * @param {(name: string) => unknown} inputs.valueOf undefined: only known when the prompt runs, as it comes over a link
 * @param {(name: string) => unknown} inputs.defaultOf
 * @param {(name: string) => boolean} inputs.isLinked
 * @param {Set<string>} inputs.unused names of inputs without effect
 * @param {(decoder: string) => string} inputs.labelOf
 */
export function settingsWords({ valueOf, defaultOf, isLinked, unused, labelOf }) {
  /** @param {string} name @param {Words} words */
  const wordsOf = (name, words) => (isLinked(name) ? t("{name} by link", { name }) : words(valueOf(name), labelOf));
  /** @param {string} name */
  const isChanged = (name) => isLinked(name) || (valueOf(name) !== undefined && valueOf(name) !== defaultOf(name));
  const named = [...Object.entries(ALWAYS), ...Object.entries(CHANGED).filter(([name]) => isChanged(name) && !unused.has(name))];
  return named.map(([name, words]) => wordsOf(name, words)).join(" · ");
}
