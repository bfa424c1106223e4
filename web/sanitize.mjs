/** Validates an untrusted manifest (`run.json`, see `types.mjs`) before display. */

export const MAX_MANIFEST_STEPS = 20_000; // twice the limit of ComfyUI's samplers
const MAX_NOTES = 100;
const MAX_COUNT = 1_000_000; // of pixels, items and frames
const MAX_DIMENSIONS = 5;
const MAX_LORAS = 100;
/** @type {import("./types.mjs").Run["state"][]} */
const STATES = ["running", "finished", "stopped", "interrupted", "failed"];

/** @typedef {Record<string, unknown>} Unread an object with unknown keys */

/** @param {unknown} value @returns {value is Unread} */
const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
/** @param {unknown} value */
const record = (value) => (isRecord(value) ? value : {});
/** @param {unknown} value @returns {unknown[]} */
const list = (value) => (Array.isArray(value) ? value : []);
/** @param {unknown} value */
const text = (value) => (typeof value === "string" ? value : null);
/** @param {unknown} value */
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
/** @param {unknown} value */
const count = (value, limit = MAX_COUNT) => (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= limit ? value : null);
/** @param {unknown} value */
const fileNames = (value) => list(value).map(fileName).filter((name) => name !== null);
/** A setting: a text, a number or a boolean. @param {unknown} value */
const setting = (value) => text(value) ?? number(value) ?? (typeof value === "boolean" ? value : null);

/** A number of steps; null for anything else. @param {unknown} value */
export function readStepCount(value) {
  return count(value, MAX_MANIFEST_STEPS);
}

/**
 * The manifest with known keys of the right types; null if it is no object. Unknown keys stay.
 *
 * @param {unknown} value
 * @returns {import("./types.mjs").Manifest | null}
 */
export function readManifest(value) {
  if (!isRecord(value)) return null;
  const sampler = record(value.sampler);
  return {
    ...value,
    id: text(value.id) ?? "",
    state: STATES.find((state) => state === value.state) ?? "failed",
    started: text(value.started),
    seconds: number(value.seconds),
    space: text(value.space),
    decoder: isRecord(value.decoder) ? { ...value.decoder, name: text(value.decoder.name), kind: text(value.decoder.kind) } : null,
    sampler: {
      ...Object.fromEntries(Object.entries(sampler).map(([key, value]) => [key, setting(value)])),
      steps: readStepCount(sampler.steps),
      shape: list(sampler.shape).slice(0, MAX_DIMENSIONS).map((size) => count(size)),
      model: modelFile(sampler.model),
      loras: Array.isArray(sampler.loras) ? sampler.loras.slice(0, MAX_LORAS).map(modelFile).filter((file) => file !== null) : null,
      sigmas: list(sampler.sigmas).slice(0, MAX_MANIFEST_STEPS + 1).map(number),
    },
    picture: isRecord(value.picture) ? readPicture(value.picture) : null,
    steps: list(value.steps).filter(isStep).slice(0, MAX_MANIFEST_STEPS).map(readStep).sort((a, b) => a.index - b.index),
    ...(value.truth === undefined ? {} : { truth: readTruth(value.truth) }),
    ...(value.prefix === undefined ? {} : { prefix: text(value.prefix) }),
    ...(value.written === undefined ? {} : { written: readWritten(value.written) }),
    ...(value.cost === undefined ? {} : { cost: readCost(value.cost) }),
    notes: list(value.notes).filter((note) => typeof note === "string").slice(0, MAX_NOTES),
    ...(value.offers === undefined ? {} : { offers: readOffers(value.offers) }),
    ...(value.control === undefined ? {} : { control: isRecord(value.control) ? readControl(value.control) : undefined }),
    sheet: fileName(value.sheet),
    animation: fileName(value.animation),
  };
}

/** A share above 0 and up to 1; undefined for anything else. @param {unknown} value */
export function readShare(value) {
  const share = number(value) ?? 0;
  return share > 0 ? Math.min(share, 1) : undefined;
}

/** A change, 0 to 1; null for anything else. @param {unknown} value */
export function readChange(value) {
  const change = number(value) ?? -1;
  return change >= 0 ? Math.min(change, 1) : null;
}

/** The size and the number of the pictures. @param {Unread} value */
function readPicture({ width, height, shown_width, shown_height, items, frames, fps, ...others }) {
  const shown = { shown_width: count(shown_width), shown_height: count(shown_height) };
  return { ...others, width: count(width), height: count(height), ...shown, items: count(items), frames: count(frames), fps: number(fps) };
}

/** What the preview costs; null if it is no object. @param {unknown} value */
function readCost(value) {
  if (!isRecord(value)) return null;
  return { ...value, sampler_ms: number(value.sampler_ms), end_ms: number(value.end_ms), memory_mb: number(value.memory_mb), device: text(value.device) };
}

/** The folder that a run writes; null if it has no name. @param {unknown} value */
function readWritten(value) {
  const { place, path, files, sheet, animation, page } = record(value);
  const [name, full] = [text(place), text(path)];
  if (!name || !full) return null;
  return { place: name, path: full, files: count(files) ?? 0, sheet: fileName(sheet), animation: fileName(animation), page: fileName(page) };
}

/** The names of decoders that notes offer, by the note. @param {unknown} value @returns {Record<string, string>} */
function readOffers(value) {
  const offers = Object.entries(record(value)).flatMap(([note, name]) => (typeof name === "string" ? [[note, name]] : []));
  return Object.fromEntries(offers.slice(0, MAX_NOTES));
}

/** What the host can do with a run that goes on. @param {Unread} value */
function readControl({ paused, kept }) {
  return { paused: paused === true, kept: list(kept).map(readStepCount).filter((step) => step !== null).slice(0, MAX_MANIFEST_STEPS) };
}

/** How true the pictures are; null if it is no object. @param {unknown} value */
function readTruth(value) {
  if (!isRecord(value)) return null;
  /** @param {unknown} entry @returns {entry is [number, number]} */
  const isEntry = (entry) => Array.isArray(entry) && readStepCount(entry[0]) !== null && number(entry[1]) !== null;
  return {
    ...value,
    psnr_db: number(value.psnr_db),
    decoder: text(value.decoder),
    to_last_db: list(value.to_last_db).filter(isEntry).slice(0, MAX_MANIFEST_STEPS),
  };
}

/** The file of a model or of a LoRA; null if it has no name. @param {unknown} value */
function modelFile(value) {
  const { name, hash, weight } = record(value);
  return typeof name === "string" ? { name, hash: text(hash), weight: number(weight) } : null;
}

/** @param {unknown} step @returns {step is Unread & {index: number}} */
function isStep(step) {
  return isRecord(step) && readStepCount(step.index) !== null;
}

/** @param {Unread & {index: number}} step */
function readStep(step) {
  return {
    ...step,
    sigma: number(step.sigma),
    at: number(step.at),
    decode_ms: number(step.decode_ms),
    files: fileNames(step.files),
    ...(step.noisy_files === undefined ? {} : { noisy_files: fileNames(step.noisy_files) }),
    frames: count(step.frames) ?? undefined,
    not_finite: readShare(step.not_finite),
    ...(step.change === undefined ? {} : { change: readChange(step.change) }),
  };
}

/** A text that can be part of an address: half of a surrogate pair cannot. @param {unknown} value */
function fileName(value) {
  try {
    encodeURIComponent(text(value) ?? "");
    return text(value);
  } catch {
    return null;
  }
}
