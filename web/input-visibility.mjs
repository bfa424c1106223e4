/** Finds the inputs of the node that have no effect with the current settings. */

const WRITES = { write_intermediates: (value) => value === true };
const ANIMATES = { ...WRITES, animation: (value) => value !== "off" };

/** Inputs that depend on others: each of the named values must pass its test. */
const CONDITIONS = new Map([
  ...["filename_prefix", "file_format", "enlarge", "sheet", "animation", "write_csv"].map((name) => [name, WRITES]),
  ...["animation_fps", "animation_hold_s", "animation_from_step", "animation_to_step"].map((name) => [name, ANIMATES]),
  ...["vae", "full_every_n_steps"].map((name) => [name, { decoder: (value) => value === "full" }]),
  ["stop_after_steps", { stop_below_percent: (value) => value > 0 }],
]);

/** Inputs that choose among several pictures, with the value that a user has not changed. */
const CHOICES = [
  { name: "frames", value: "first", count: "frames" },
  { name: "batch", value: "grid", count: "items" },
];

/**
 * The names of inputs that have no effect now.
 *
 * @param {(name: string) => unknown} valueOf value of another input; undefined: only known when the prompt runs
 * @param {{items: number, frames: number} | null} [latents] of the newest run with the same model; null if there is none
 * @returns {Set<string>}
 */
export function unusedInputs(valueOf, latents = null) {
  const mayPass = ([name, test]) => valueOf(name) === undefined || test(valueOf(name));
  const unused = [...CONDITIONS].filter(([, tests]) => !Object.entries(tests).every(mayPass));
  const single = CHOICES.filter(({ name, value, count }) => latents?.[count] === 1 && valueOf(name) === value);
  return new Set([...unused.map(([name]) => name), ...single.map(({ name }) => name)]);
}
