/** A manifest from anywhere, so that nothing in it can surprise whoever shows it; `run.json`, see `types.mjs`. */

export const MOST_STEPS = 20_000; // a host's samplers do half as many
const MOST_NOTES = 100;
const MOST_PX = 1_000_000;
const STATES = ["running", "finished", "interrupted", "failed"];

const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const record = (value) => (isRecord(value) ? value : {});
const list = (value) => (Array.isArray(value) ? value : []);
const text = (value) => (typeof value === "string" ? value : null);
const number = (value) => (Number.isFinite(value) ? value : null);
const count = (value, most) => (Number.isInteger(value) && value >= 0 && value <= most ? value : null);
/** What a person typed into a field: a text, a number, yes or no. */
const typed = (value) => text(value) ?? number(value) ?? (typeof value === "boolean" ? value : null);

/** How many steps there are; null for what cannot be. */
export function countOf(value) {
  return count(value, MOST_STEPS);
}

/** The manifest, or null where there is none. Keys that nobody knows stay. @returns {import("./types.mjs").Manifest | null} */
export function readManifest(told) {
  if (!isRecord(told)) return null;
  const [sampler, picture] = [record(told.sampler), record(told.picture)];
  const sizes = ["width", "height", "shown_width", "shown_height", "items", "frames"].map((key) => [key, count(picture[key], MOST_PX)]);
  return {
    ...told,
    id: text(told.id) ?? "",
    state: STATES.includes(told.state) ? told.state : "failed",
    started: text(told.started),
    seconds: number(told.seconds),
    space: text(told.space),
    decoder: isRecord(told.decoder) ? { ...told.decoder, name: text(told.decoder.name), kind: text(told.decoder.kind) } : null,
    sampler: {
      ...Object.fromEntries(Object.entries(sampler).map(([key, value]) => [key, typed(value)])),
      steps: countOf(sampler.steps),
      sigmas: list(sampler.sigmas).slice(0, MOST_STEPS + 1).map(number),
    },
    picture: isRecord(told.picture) ? { ...picture, ...Object.fromEntries(sizes), fps: number(picture.fps) } : null,
    steps: list(told.steps).filter(isStep).slice(0, MOST_STEPS).map(readStep).sort((a, b) => a.index - b.index),
    notes: list(told.notes).filter((note) => typeof note === "string").slice(0, MOST_NOTES),
    sheet: fileName(told.sheet),
    animation: fileName(told.animation),
  };
}

function isStep(step) {
  return isRecord(step) && countOf(step.index) !== null;
}

function readStep(step) {
  return {
    ...step,
    sigma: number(step.sigma),
    at: number(step.at),
    decode_ms: number(step.decode_ms),
    files: list(step.files).filter((file) => fileName(file) !== null),
    frames: count(step.frames, MOST_PX) ?? undefined,
  };
}

/** A text that can become part of an address: not every one that JSON can hold is one. */
function fileName(value) {
  try {
    encodeURIComponent(value);
    return text(value);
  } catch {
    return null;
  }
}
