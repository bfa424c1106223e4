/** Finds the inputs of the node that have no effect with the current settings. */

const WRITES = { write_intermediates: (value) => value === true };
const ANIMATES = { ...WRITES, animation: (value) => value !== "off" };

/** Inputs that depend on others: each of the named values must pass its test. */
const CONDITIONS = new Map([
  ...["filename_prefix", "file_format", "enlarge", "sheet", "animation", "write_csv"].map((name) => [name, WRITES]),
  ...["animation_fps", "animation_hold_s", "animation_from_step", "animation_to_step"].map((name) => [name, ANIMATES]),
  ["full_every_n_steps", { decoder: (value) => value === "full" }],
]);

/**
 * The names of inputs that have no effect now.
 *
 * @param {(name: string) => unknown} valueOf value of another input; undefined: only known when the prompt runs
 * @returns {Set<string>}
 */
export function unusedInputs(valueOf) {
  const mayPass = ([name, test]) => valueOf(name) === undefined || test(valueOf(name));
  const unused = [...CONDITIONS].filter(([, tests]) => !Object.entries(tests).every(mayPass));
  return new Set(unused.map(([name]) => name));
}
