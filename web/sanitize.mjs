/** Validates an untrusted manifest (`run.json`, see `types.mjs`) before display. */

export const MAX_MANIFEST_STEPS = 20_000; // twice the limit of ComfyUI's samplers
const MAX_NOTES = 100;
const MAX_COUNT = 1_000_000; // of pixels, items and frames
const MAX_DIMENSIONS = 5;
const MAX_LORAS = 100;
const STATES = ["running", "finished", "stopped", "interrupted", "failed"];

const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const record = (value) => (isRecord(value) ? value : {});
const list = (value) => (Array.isArray(value) ? value : []);
const text = (value) => (typeof value === "string" ? value : null);
const number = (value) => (Number.isFinite(value) ? value : null);
const count = (value, limit = MAX_COUNT) => (Number.isInteger(value) && value >= 0 && value <= limit ? value : null);
/** A setting: a text, a number or a boolean. */
const setting = (value) => text(value) ?? number(value) ?? (typeof value === "boolean" ? value : null);

/** A number of steps; null for anything else. */
export function readStepCount(value) {
  return count(value, MAX_MANIFEST_STEPS);
}

/** The manifest with known keys of the right types; null if it is no object. Unknown keys stay. @returns {import("./types.mjs").Manifest | null} */
export function readManifest(value) {
  if (!isRecord(value)) return null;
  const [sampler, picture] = [record(value.sampler), record(value.picture)];
  const sizes = ["width", "height", "shown_width", "shown_height", "items", "frames"].map((key) => [key, count(picture[key])]);
  return {
    ...value,
    id: text(value.id) ?? "",
    state: STATES.includes(value.state) ? value.state : "failed",
    started: text(value.started),
    seconds: number(value.seconds),
    space: text(value.space),
    decoder: isRecord(value.decoder) ? { ...value.decoder, name: text(value.decoder.name), kind: text(value.decoder.kind) } : null,
    sampler: {
      ...Object.fromEntries(Object.entries(sampler).map(([key, value]) => [key, setting(value)])),
      steps: readStepCount(sampler.steps),
      shape: list(sampler.shape).slice(0, MAX_DIMENSIONS).map((size) => count(size)),
      model: modelFile(sampler.model),
      loras: Array.isArray(sampler.loras) ? sampler.loras.slice(0, MAX_LORAS).map(modelFile).filter(Boolean) : null,
      sigmas: list(sampler.sigmas).slice(0, MAX_MANIFEST_STEPS + 1).map(number),
    },
    picture: isRecord(value.picture) ? { ...picture, ...Object.fromEntries(sizes), fps: number(picture.fps) } : null,
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

/** A share above 0 and up to 1; undefined for anything else. */
export function readShare(value) {
  return Number.isFinite(value) && value > 0 ? Math.min(value, 1) : undefined;
}

/** A change, 0 to 1; null for anything else. */
export function readChange(value) {
  return Number.isFinite(value) && value >= 0 ? Math.min(value, 1) : null;
}

/** What the preview costs; null if it is no object. */
function readCost(value) {
  if (!isRecord(value)) return null;
  const numbers = ["sampler_ms", "end_ms", "memory_mb"].map((key) => [key, number(value[key])]);
  return { ...value, ...Object.fromEntries(numbers), device: text(value.device) };
}

/** The folder that a run writes; null if it has no name. */
function readWritten(value) {
  const { place, path, files, ...products } = record(value);
  if (!text(place) || !text(path)) return null;
  return { place, path, files: count(files) ?? 0, ...Object.fromEntries(["sheet", "animation", "page"].map((key) => [key, fileName(products[key])])) };
}

/** The names of decoders that notes offer, by the note. */
function readOffers(value) {
  return Object.fromEntries(Object.entries(record(value)).filter(([, name]) => typeof name === "string").slice(0, MAX_NOTES));
}

/** What the host can do with a run that goes on. */
function readControl({ paused, kept }) {
  return { paused: paused === true, kept: list(kept).filter((step) => readStepCount(step) !== null).slice(0, MAX_MANIFEST_STEPS) };
}

/** How true the pictures are; null if it is no object. */
function readTruth(value) {
  if (!isRecord(value)) return null;
  const isEntry = (entry) => Array.isArray(entry) && readStepCount(entry[0]) !== null && number(entry[1]) !== null;
  return {
    ...value,
    psnr_db: number(value.psnr_db),
    decoder: text(value.decoder),
    to_last_db: list(value.to_last_db).filter(isEntry).slice(0, MAX_MANIFEST_STEPS),
  };
}

/** The file of a model or of a LoRA; null if it has no name. */
function modelFile(value) {
  const { name, hash, weight } = record(value);
  return text(name) === null ? null : { name, hash: text(hash), weight: number(weight) };
}

function isStep(step) {
  return isRecord(step) && readStepCount(step.index) !== null;
}

function readStep(step) {
  return {
    ...step,
    sigma: number(step.sigma),
    at: number(step.at),
    decode_ms: number(step.decode_ms),
    files: list(step.files).filter((file) => fileName(file) !== null),
    ...(step.noisy_files === undefined ? {} : { noisy_files: list(step.noisy_files).filter((file) => fileName(file) !== null) }),
    frames: count(step.frames) ?? undefined,
    not_finite: readShare(step.not_finite),
    ...(step.change === undefined ? {} : { change: readChange(step.change) }),
  };
}

/** A text that can be part of an address: half of a surrogate pair cannot. */
function fileName(value) {
  try {
    encodeURIComponent(value);
    return text(value);
  } catch {
    return null;
  }
}
