/** What a manifest says, put so that a picture can be shown of it; `run.json`, see `types.mjs`. */

/** @typedef {import("./types.mjs").Manifest} Manifest @typedef {import("./types.mjs").ManifestStep} ManifestStep */

const RATE_OVER_STEPS = 8; // the newest ones: a run may be slow to begin, or slow down
const SILENT_MS = 60_000; // loading a model takes its time
const SILENT_STEPS = 10; // that could have been done since

/** The steps that have a picture, in order. @param {Manifest | null} manifest @returns {ManifestStep[]} */
export function pictured(manifest) {
  return manifest?.steps.filter((step) => step.files.length > 0) ?? [];
}

/** The newest step that has a picture, or null. @param {Manifest | null} manifest */
export function newestStep(manifest) {
  return manifest?.steps.findLast((step) => step.files.length > 0) ?? null;
}

/** The pictured step nearest to an index, the later one of two. @param {ManifestStep[]} steps @param {number} index */
export function nearestStep(steps, index) {
  return nearest(steps, (step) => Math.abs(step.index - index));
}

/**
 * The pictured step whose noise is most like `sigma`: by ratio, for that is what the eye sees; the last one for none.
 *
 * @param {ManifestStep[]} steps
 */
export function stepAtSigma(steps, sigma) {
  const known = steps.filter((step) => step.sigma != null);
  return nearest(known, (step) => Math.abs(Math.log(step.sigma + 1e-6) - Math.log(sigma + 1e-6)));
}

function nearest(steps, distance) {
  const best = Math.min(...steps.map(distance));
  return steps.findLast((step) => distance(step) === best) ?? null;
}

/** How many items of a batch and frames of a video a step has files of, and whether one file holds all frames. */
export function extent(manifest, step) {
  const frames = step.frames ?? manifest.picture?.frames ?? 1;
  const items = manifest.picture?.items ?? 1;
  const perFrame = frames > 1 && step.files.length >= frames && step.files.length > items;
  return {
    items: Math.max(1, perFrame ? Math.floor(step.files.length / frames) : Math.min(items, step.files.length)),
    frames: perFrame ? frames : 1,
    animated: frames > 1 && !perFrame,
  };
}

/** How many frames a step's pictures have, in however many files. @param {import("./types.mjs").Shown} shown */
export function framesOf({ run, step }) {
  return step.frames ?? run.manifest.picture?.frames ?? 1;
}

/** The file of one item at one frame, or undefined. */
export function fileOf(manifest, step, item, frame) {
  const { frames } = extent(manifest, step);
  return step.files[item * frames + Math.min(frame, frames - 1)];
}

/** When a run began, in milliseconds since 1970; 0 where it does not say. @param {{started?: string}} told */
export function startOf({ started }) {
  const at = Date.parse(started);
  return Number.isNaN(at) ? 0 : at;
}

/** The size of the final image, which is the aspect of everything before it. */
export function shape(manifest) {
  const { shown_width, shown_height, width, height } = manifest?.picture ?? {};
  if (shown_width > 0 && shown_height > 0) return { width: shown_width, height: shown_height };
  return width > 0 && height > 0 ? { width, height } : null;
}

/** The noise at each step from 1 to `total`; null where it is not known. */
export function sigmas(manifest, total) {
  const planned = manifest?.sampler?.sigmas ?? [];
  const seen = new Map(manifest?.steps.map((step) => [step.index, step.sigma]));
  return Array.from({ length: total ?? 0 }, (_, i) => planned[i] ?? seen.get(i + 1) ?? null);
}

/** Seconds that a step takes, by those that were last seen; null until that can be known. */
export function secondsPerStep(manifest) {
  const timed = manifest?.steps.filter((step) => step.at != null).slice(-RATE_OVER_STEPS) ?? [];
  const [first, last] = [timed[0], timed.at(-1)];
  if (!first || last.index <= first.index) return null;
  return Math.max(0, (last.at - first.at) / (last.index - first.index));
}

/**
 * Whether a run that never said that it ended has not said anything for so long that nobody should count on it. A
 * process that was killed writes no last word.
 *
 * @param {import("./types.mjs").Run} run
 * @param {number} now milliseconds since 1970
 */
export function isSilent(run, now) {
  if (run.state !== "running" || run.written == null) return false;
  return now - run.written > Math.max(SILENT_MS, SILENT_STEPS * 1000 * (secondsPerStep(run.manifest) ?? 0));
}

/** What a person would look at to know why two runs differ. */
const SETTINGS = [
  ["seed", (manifest) => manifest.sampler?.seed],
  ["steps", (manifest) => manifest.sampler?.steps],
  ["cfg", (manifest) => manifest.sampler?.cfg],
  ["sampler", (manifest) => manifest.sampler?.name],
  ["scheduler", (manifest) => manifest.sampler?.scheduler],
  ["first σ", (manifest) => manifest.sampler?.sigmas?.[0]],
  ["space", (manifest) => manifest.space],
  ["size", (manifest) => Object.values(shape(manifest) ?? {}).join("×") || null],
  ["shown by", (manifest) => manifest.decoder?.name],
  ["prompt", (manifest) => manifest.sampler?.prompt],
];

/**
 * The settings that differ, with both values as text; what one of them does not know is not a difference.
 *
 * @param {Manifest} a @param {Manifest} b
 * @returns {{name: string, a: string, b: string}[]}
 */
export function differences(a, b) {
  return SETTINGS.map(([name, read]) => ({ name, a: read(a), b: read(b) }))
    .filter((row) => row.a != null && row.b != null && String(row.a) !== String(row.b))
    .map((row) => ({ name: row.name, ...whereTheyPart(String(row.a), String(row.b)) }));
}

/** Two texts without the words that they begin and end with alike. */
export function whereTheyPart(a, b) {
  const [first, second] = [a, b].map((text) => text.trim().split(/\s+/));
  const shorter = Math.min(first.length, second.length);
  let before = 0;
  while (before < shorter && first[before] === second[before]) before++;
  let after = 0;
  while (after < shorter - before && first.at(-1 - after) === second.at(-1 - after)) after++;
  const cut = (words) => {
    const middle = words.slice(before, words.length - after).join(" ") || "–";
    return `${before ? "… " : ""}${middle}${after ? " …" : ""}`;
  };
  return { a: cut(first), b: cut(second) };
}
