/** Finds the inputs of the node that have no effect with the current settings. */

/** @typedef {Record<string, (value: unknown) => boolean>} Tests of the values of inputs, by their names */

/** @type {Tests} */
const WRITES = { write_intermediates: (value) => value === true };
/** @type {Tests} */
const ANIMATES = { ...WRITES, animation: (value) => value !== "off" };
/** @type {Tests} */
const DECODES_FULLY = { decoder: (value) => value === "full" };

/** Inputs that depend on others: each of the named values must pass its test. @type {[string[], Tests][]} */
const CONDITIONS = [
  [["filename_prefix", "file_format", "enlarge", "sheet", "animation", "write_csv"], WRITES],
  [["animation_fps", "animation_hold_s", "animation_from_step", "animation_to_step"], ANIMATES],
  [["vae", "full_every_n_steps"], DECODES_FULLY],
  [["stop_after_steps"], { stop_below_percent: (value) => Number(value) > 0 }],
];

/**
 * Inputs that choose among several pictures, with the value that a user has not changed.
 *
 * @type {{name: string, value: string, count: "frames" | "items"}[]}
 */
const CHOICES = [
  { name: "frames", value: "first", count: "frames" },
  { name: "batch", value: "grid", count: "items" },
];

/**
 * The names of inputs that have no effect now.
 *
 * @param {(name: string) => unknown} valueOf value of another input; undefined: only known when the prompt runs
 * @param {{items?: number, frames: number | null} | null} [latents] of the newest run with the same model; null if there is none
 * @returns {Set<string>}
 */
export function unusedInputs(valueOf, latents = null) {
  /** @param {[string, (value: unknown) => boolean]} condition */
  const mayPass = ([name, test]) => valueOf(name) === undefined || test(valueOf(name));
  const unused = CONDITIONS.filter(([, tests]) => !Object.entries(tests).every(mayPass)).flatMap(([names]) => names);
  const single = CHOICES.filter(({ name, value, count }) => latents?.[count] === 1 && valueOf(name) === value);
  return new Set([...unused, ...single.map(({ name }) => name)]);
}
