/** Says in a few words what the inputs of the node are set to. */

const FILE_NAMES = { png: "PNG", webp: "WebP", jpg: "JPEG" };
const nth = (count) => `every ${count} steps`;

/** The words for an input that the line always names, by its value. */
const ALWAYS = {
  decoder: (value, labelOf) => labelOf(value),
  show: (value) => (value === "both" ? "denoised and noisy" : value),
  every_n_steps: (value) => (value === 1 ? "every step" : nth(value)),
};

/** The words for an input that the line names if it is not at its default. */
const CHANGED = {
  min_interval_s: (value) => `at most every ${value} s`,
  max_side_px: (value) => (value ? `up to ${value} px` : "any size"),
  full_every_n_steps: (value) => `VAE ${nth(value)}`,
  batch: (value) => (value === "first" ? "first of the batch" : "a file for each picture"),
  frames: (value) => ({ middle: "middle frame", animated: "animated", "all files": "a file for each frame" })[value] ?? value,
  keep_latents: () => "keeps latents",
  write_intermediates: () => "writes files",
  filename_prefix: (value) => `to ${value}`,
  file_format: (value) => `as ${FILE_NAMES[value] ?? value}`,
  enlarge: (value) => `enlarged by ${value}`,
  sheet: () => "contact sheet",
  animation: (value) => `${value} animation`,
  animation_fps: (value) => `${value} steps per second`,
  animation_hold_s: (value) => `last held ${value} s`,
  animation_from_step: (value) => `from step ${value}`,
  animation_to_step: (value) => `to step ${value}`,
  write_csv: () => "steps.csv",
  stop_below_percent: (value) => `stops below ${value} %`,
  stop_after_steps: (value) => `after ${value} steps`,
  send_previews: () => "sends previews",
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
  const wordsOf = (name, words) => (isLinked(name) ? `${name} by link` : words(valueOf(name), labelOf));
  const isChanged = (name) => isLinked(name) || (valueOf(name) !== undefined && valueOf(name) !== defaultOf(name));
  const named = [...Object.entries(ALWAYS), ...Object.entries(CHANGED).filter(([name]) => isChanged(name) && !unused.has(name))];
  return named.map(([name, words]) => wordsOf(name, words)).join(" · ");
}
