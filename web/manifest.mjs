/** Answers questions about a manifest (`run.json`, see `types.mjs`): its steps, files, sizes, times and settings. */

import { later, t } from "./language.mjs";

/** @typedef {import("./types.mjs").Manifest} Manifest @typedef {import("./types.mjs").ManifestStep} ManifestStep */

const RATE_STEPS = 8; // the newest ones: the first steps may be slow
const SILENT_MS = 60_000; // loading a model takes long
const SILENT_STEPS = 10; // or the time of so many steps, if that is longer

/** The steps that have a picture, in order. @param {Manifest | null} manifest @returns {ManifestStep[]} */
export function picturedSteps(manifest) {
  return manifest?.steps.filter((step) => step.files.length > 0) ?? [];
}

/** The newest step that has a picture, or null. @param {Manifest | null} manifest */
export function newestStep(manifest) {
  return manifest?.steps.findLast((step) => step.files.length > 0) ?? null;
}

/** The step at the end of a run: the newest picture, or that of the step that the user kept. @param {Manifest | null} manifest */
export function endStep(manifest) {
  const kept = manifest?.sampler?.kept_step;
  return (kept != null && picturedSteps(manifest).find(({ index }) => index === kept)) || newestStep(manifest);
}

/** The step nearest to an index; of two, the later one. @param {ManifestStep[]} steps @param {number} index */
export function nearestStep(steps, index) {
  return nearest(steps, (step) => Math.abs(step.index - index));
}

/** The step whose sigma has the ratio nearest to 1 with `sigma`, or null. @param {ManifestStep[]} steps @param {number} sigma */
export function stepAtSigma(steps, sigma) {
  const withSigma = steps.filter((step) => step.sigma != null);
  return nearest(withSigma, (step) => Math.abs(Math.log((step.sigma ?? 0) + 1e-6) - Math.log(sigma + 1e-6)));
}

/** @param {ManifestStep[]} steps @param {(step: ManifestStep) => number} distance */
function nearest(steps, distance) {
  const best = Math.min(...steps.map(distance));
  return steps.findLast((step) => distance(step) === best) ?? null;
}

/**
 * The number of batch items and video frames that a step has files of, and whether each file contains all frames.
 *
 * @param {Manifest | null} manifest @param {ManifestStep} step
 */
export function stepLayout(manifest, step) {
  const frames = step.frames ?? manifest?.picture?.frames ?? 1;
  const items = manifest?.picture?.items ?? 1;
  const perFrame = frames > 1 && step.files.length >= frames && step.files.length > items;
  return {
    items: Math.max(1, perFrame ? Math.floor(step.files.length / frames) : Math.min(items, step.files.length)),
    frames: perFrame ? frames : 1,
    animated: frames > 1 && !perFrame,
  };
}

/** The number of frames of a step, in one file or in many. @param {Pick<import("./types.mjs").PicturedStep, "run" | "step">} shown */
export function frameCount({ run, step }) {
  return step.frames ?? run.manifest?.picture?.frames ?? 1;
}

/** Whether a step has pictures of both its denoised and its noisy latents. @param {ManifestStep | null} step */
export function hasBoth(step) {
  return step !== null && step.files.length > 0 && step.noisy_files?.length === step.files.length;
}

/**
 * A step with the files of the chosen latents, where it has both.
 *
 * @param {ManifestStep} step @param {"denoised" | "noisy"} latents
 * @returns {ManifestStep}
 */
export function stepOf(step, latents) {
  return latents === "noisy" && hasBoth(step) ? { ...step, files: step.noisy_files ?? [] } : step;
}

/**
 * The file of one item and one frame, or undefined.
 *
 * @param {Manifest | null} manifest @param {ManifestStep} step @param {number} item @param {number} frame
 * @returns {string | undefined}
 */
export function stepFile(manifest, step, item, frame) {
  const { frames } = stepLayout(manifest, step);
  return step.files[item * frames + Math.min(frame, frames - 1)];
}

/**
 * The numbers of batch items and video frames that the sampler worked on, whatever the pictures show; null if unknown.
 *
 * @param {Manifest | null} manifest
 */
export function latentCounts(manifest) {
  const { shape = [] } = manifest?.sampler ?? {};
  const known = shape.filter((size) => size !== null);
  if (known.length < 3 || known.length < shape.length) return null;
  return { items: known[0], frames: known.length > 4 ? known[2] : 1 };
}

/** The start of a run in milliseconds since 1970; 0 if unknown. @param {{started?: string | null}} manifest or summary */
export function startMs({ started }) {
  const at = Date.parse(started ?? "");
  return Number.isNaN(at) ? 0 : at;
}

/**
 * The size of the final image, else of the decoded one, or null. All pictures of a run have its aspect ratio.
 *
 * @param {Pick<Manifest, "picture"> | null} manifest
 */
export function finalSize(manifest) {
  const { shown_width, shown_height, width, height } = manifest?.picture ?? {};
  if (shown_width && shown_height) return { width: shown_width, height: shown_height };
  return width && height ? { width, height } : null;
}

/**
 * The number of steps of a run, or null. The record of an ended run is newer than what its events announced, and a sampler
 * may make more steps than it announces.
 *
 * @param {import("./types.mjs").Run} run
 */
export function stepTotal({ state, index, total, manifest }) {
  const ended = state !== "running" && manifest?.state === state;
  const announced = (ended ? manifest.sampler?.steps : null) ?? total ?? manifest?.sampler?.steps ?? null;
  const newest = Math.max(index ?? 0, manifest?.steps.at(-1)?.index ?? 0);
  return announced === null ? null : Math.max(announced, newest);
}

/**
 * The sigma of each step from 1 to `total`: as the sampler had it, for other steps as planned; null where unknown.
 *
 * @param {Manifest | null} manifest @param {number | null} total
 */
export function sigmas(manifest, total) {
  const planned = manifest?.sampler?.sigmas ?? [];
  const measured = new Map(manifest?.steps.map((step) => [step.index, step.sigma]));
  return Array.from({ length: total ?? 0 }, (_, i) => (measured.has(i + 1) ? measured.get(i + 1) : planned[i]) ?? null);
}

/** Seconds per step, measured over the newest steps; null before two steps have a time. @param {Manifest | null} manifest */
export function secondsPerStep(manifest) {
  const timed = timedSteps(manifest).slice(-RATE_STEPS);
  const [first, last] = [timed[0], timed.at(-1)];
  if (!first || !last || last.index <= first.index) return null;
  return Math.max(0, (last.at - first.at) / (last.index - first.index));
}

/** The steps whose time is known. @param {Manifest | null} manifest */
export function timedSteps(manifest) {
  return manifest?.steps.flatMap(({ index, at }) => (at == null ? [] : [{ index, at }])) ?? [];
}

/**
 * Whether a running run has not been updated for so long that it has probably ended: a killed process writes no final
 * state.
 *
 * @param {import("./types.mjs").Run} run
 * @param {number} now milliseconds since 1970
 */
export function isSilent(run, now) {
  if (run.state !== "running" || run.written == null) return false;
  return now - run.written > Math.max(SILENT_MS, SILENT_STEPS * 1000 * (secondsPerStep(run.manifest) ?? 0));
}

const HASH_CHARS = 12; // enough to tell two files apart

/**
 * The file name of a run's model, without its folder and its suffix; null if unknown.
 *
 * @param {{sampler?: {model: {name: string} | null}} | null} manifest
 */
export function modelName(manifest) {
  const name = manifest?.sampler?.model?.name;
  return name ? shortName(name) : null;
}

/** @param {string} file */
function shortName(file) {
  return file.replace(/^.*[/\\]/s, "").replace(/\.\w+$/, "");
}

/** `detail×0.8, lcm`, or `none`; null if unknown: where the model is known, the LoRAs are. @param {Manifest} manifest */
function loraText(manifest) {
  const { model, loras } = manifest.sampler ?? {};
  if (!model) return null;
  return loras?.map(({ name, weight }) => [shortName(name), weight].filter((part) => part != null).join("×")).join(", ") || t("none");
}

/** Settings that can explain why two runs differ. @type {[string, (manifest: Manifest) => unknown][]} */
const SETTINGS = [
  [later("model"), (manifest) => manifest.sampler?.model?.name],
  [later("model hash"), (manifest) => manifest.sampler?.model?.hash?.split(":").at(-1)?.slice(0, HASH_CHARS)],
  [later("LoRAs"), loraText],
  [later("seed"), (manifest) => manifest.sampler?.seed],
  [later("steps"), (manifest) => manifest.sampler?.steps],
  [later("cfg"), (manifest) => manifest.sampler?.cfg],
  [later("sampler"), (manifest) => manifest.sampler?.name],
  [later("scheduler"), (manifest) => manifest.sampler?.scheduler],
  [later("strength"), (manifest) => manifest.sampler?.strength],
  [later("guidance"), (manifest) => manifest.sampler?.guidance],
  [later("first σ"), (manifest) => manifest.sampler?.sigmas?.[0]],
  [later("space"), (manifest) => manifest.space],
  [later("size"), (manifest) => Object.values(finalSize(manifest) ?? {}).join("×") || null],
  [later("decoder"), (manifest) => manifest.decoder?.name],
  [later("prompt"), (manifest) => manifest.sampler?.prompt],
];

/**
 * The settings that differ, with both values as text. A value that one run does not have is not a difference.
 *
 * @param {Manifest} a @param {Manifest} b
 * @returns {{name: string, a: string, b: string}[]}
 */
export function differences(a, b) {
  return SETTINGS.map(([name, read]) => ({ name, a: read(a), b: read(b) }))
    .filter((row) => row.a != null && row.b != null && String(row.a) !== String(row.b))
    .map((row) => ({ name: row.name, ...textDifference(String(row.a), String(row.b)) }));
}

/** Two texts without their common first and last words. @param {string} a @param {string} b */
export function textDifference(a, b) {
  const [first, second] = [a, b].map((text) => text.trim().split(/\s+/));
  const shorter = Math.min(first.length, second.length);
  let before = 0;
  while (before < shorter && first[before] === second[before]) before++;
  let after = 0;
  while (after < shorter - before && first.at(-1 - after) === second.at(-1 - after)) after++;
  /** @param {string[]} words */
  const cut = (words) => {
    const middle = words.slice(before, words.length - after).join(" ") || "–";
    return `${before ? "… " : ""}${middle}${after ? " …" : ""}`;
  };
  return { a: cut(first), b: cut(second) };
}
