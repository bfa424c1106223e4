/** Inputs of the node that do nothing as the others stand: they need not be seen. */

const WRITES = { write_intermediates: (value) => value === true };
const MOVES = { ...WRITES, animation: (value) => value !== "off" };

/** What gives an input something to do: each of these values, by name. */
const NEEDS = new Map([
  ...["filename_prefix", "file_format", "enlarge", "sheet", "animation"].map((name) => [name, WRITES]),
  ...["animation_fps", "animation_hold_s", "animation_from_step", "animation_to_step"].map((name) => [name, MOVES]),
  ["full_every_n_steps", { decoder: (value) => value === "full" }],
]);

/**
 * The names of inputs that do nothing now.
 *
 * @param {(name: string) => unknown} valueOf another input; undefined: nobody knows before the prompt runs
 * @returns {Set<string>}
 */
export function idleInputs(valueOf) {
  const isMet = ([name, does]) => valueOf(name) === undefined || does(valueOf(name));
  const idle = [...NEEDS].filter(([, needed]) => !Object.entries(needed).every(isMet));
  return new Set(idle.map(([name]) => name));
}
