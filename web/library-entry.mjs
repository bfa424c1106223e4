/** Reads a run of a library from untrusted data, and describes it in words. */

import { decoderLabel, formatDuration } from "./caption.mjs";
import { date, later, t } from "./language.mjs";
import { finalSize, modelName, startMs } from "./manifest.mjs";
import { readManifest, readStepCount } from "./sanitize.mjs";

const FIRST_WORDS = 90; // characters of a prompt in a tooltip
/** @type {Record<string, string>} */
const STATES = { running: later("running"), interrupted: later("canceled"), stopped: later("stopped"), failed: later("failed") };
/** @type {Intl.DateTimeFormatOptions} */
const SHORT_WHEN = { day: "numeric", month: "short", hour: "numeric", minute: "2-digit" };
/** @type {Intl.DateTimeFormatOptions} */
const SHORT_DAY = { day: "numeric", month: "short", year: "numeric" };
/** @type {Intl.DateTimeFormatOptions} */
const WHEN = { dateStyle: "medium", timeStyle: "short" };

/**
 * A run of a library.
 *
 * @typedef {object} Entry
 * @property {string} id opens the run
 * @property {import("./types.mjs").Run["state"]} state
 * @property {number} started milliseconds since 1970; 0 if unknown
 * @property {number | null} written last update, milliseconds since 1970
 * @property {string | null} version changes with the manifest
 * @property {import("./types.mjs").Sampler} sampler
 * @property {{width: number, height: number} | null} size of the final image
 * @property {string} model file name without folder and suffix, or empty
 * @property {string} decoder latent space and decoder in words, or empty
 * @property {string} host
 * @property {string} prompt its first 600 characters, or empty
 * @property {string} note of the user
 * @property {boolean} star
 * @property {boolean} live not saved: removed when newer runs need the space
 * @property {boolean} workflow whether its newest picture contains the workflow
 * @property {string | null} folder path in the folder of the library; null for a live run without files
 * @property {number} files number of picture files
 * @property {number} pictured number of steps with a picture
 * @property {number | null} index newest step with a picture
 * @property {number | null} total number of steps
 * @property {string | null} thumbnail file of the newest picture
 * @property {number | null} at time of that step
 * @property {{page: string | null, sheet: string | null, animation: string | null}} products files about the whole run
 */

/** @param {unknown} value */
const text = (value) => (typeof value === "string" ? value : "");
/** @param {unknown} value */
const time = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/** An entry of a server's list, or of the data in a page; null if it is none. @param {unknown} saved @returns {Entry | null} */
export function readEntry(saved) {
  const value = /** @type {Record<string, unknown>} */ (Object(saved));
  const manifest = readManifest({ ...value, steps: [], notes: [] });
  if (!manifest?.id) return null;
  return {
    id: manifest.id,
    state: manifest.state,
    started: startMs(manifest),
    written: time(value.written),
    version: text(value.version) || null,
    sampler: manifest.sampler,
    size: finalSize(manifest),
    model: (typeof value.model === "string" && modelName({ sampler: { model: { name: value.model } } })) || "",
    decoder: decoderLabel(manifest),
    host: text(value.host),
    prompt: text(value.prompt),
    note: text(value.note),
    star: value.star === true,
    live: value.live === true,
    workflow: value.workflow === true,
    folder: text(value.folder) || null,
    files: readStepCount(value.files) ?? 0,
    pictured: readStepCount(value.steps) ?? 0,
    index: readStepCount(value.index),
    total: readStepCount(value.total),
    thumbnail: text(value.thumbnail) || null,
    at: time(value.at),
    products: { page: text(value.page) || null, sheet: manifest.sheet ?? null, animation: manifest.animation ?? null },
  };
}

/** When a run began, in the user's words; empty if unknown. @param {Entry} entry */
export function whenLabel({ started }) {
  return started ? date(started, WHEN) : "";
}

/** The same as short as a tile is wide: the time of a run of this year, else only the day. @param {Entry} entry */
export function shortWhen({ started }, now = Date.now()) {
  if (!started) return "";
  const isThisYear = new Date(started).getFullYear() === new Date(now).getFullYear();
  return date(started, isThisYear ? SHORT_WHEN : SHORT_DAY);
}

/** The date of a run as `2026-11-30`, in the user's time zone. @param {Entry} entry */
export function dayOf({ started }) {
  if (!started) return "";
  const day = new Date(started);
  /** @param {number} number */
  const two = (number) => String(number).padStart(2, "0");
  return `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}`;
}

/** The settings of a run, in one line. @param {Entry} entry */
export function settingsLabel({ sampler: { seed, name, scheduler, cfg } }) {
  const parts = [seed == null ? "" : t("seed {seed}", { seed }), [name, scheduler].filter(Boolean).join(" "), cfg == null ? "" : t("cfg {cfg}", { cfg })];
  return parts.filter(Boolean).join(" · ");
}

/** The first words of a prompt. @param {Entry} entry */
export function firstWords({ prompt }) {
  const words = prompt.replace(/\s+/g, " ").trim();
  return words.length > FIRST_WORDS ? `${words.slice(0, FIRST_WORDS - 1)}…` : words;
}

/** The tooltip of a tile: date, seed, sampler, cfg, model, the first words of the prompt, the note. @param {Entry} entry */
export function tooltip(entry) {
  const lines = [whenLabel(entry), settingsLabel(entry), entry.model, firstWords(entry), entry.note && t("Note: {note}", { note: entry.note })];
  return lines.filter(Boolean).join("\n");
}

/** What a screen reader says for a tile. @param {Entry} entry */
export function spokenLabel(entry) {
  const { star, note, live } = entry;
  const parts = [whenLabel(entry) || t("unknown date"), settingsLabel(entry), firstWords(entry)];
  return [...parts, stateLabel(entry), star && t("starred"), note && t("has a note"), live && t("not saved")].filter(Boolean).join(", ");
}

/** The facts of a run for its details, as pairs of a name and a text. @param {Entry} entry @returns {[name: string, text: string][]} */
export function facts(entry) {
  const { sampler, size, started, written, state } = entry;
  const seconds = started && written ? (written - started) / 1000 : null;
  /** @type {[string, unknown][]} */
  const rows = [
    [t("Seed"), sampler.seed],
    [t("Sampler"), [sampler.name, sampler.scheduler].filter(Boolean).join(" ")],
    [t("CFG"), sampler.cfg],
    [t("Steps"), entry.pictured && entry.total ? t("{count} of {total} with a picture", { count: entry.pictured, total: entry.total }) : entry.total],
    [t("Size"), size && `${size.width}×${size.height}`],
    [t("Model"), entry.model],
    [t("Decoder"), entry.decoder],
    [t("Time"), seconds !== null && seconds >= 0 && state !== "running" ? formatDuration(seconds) : null],
    [t("Host"), entry.host],
    [t("Folder"), entry.folder === "." ? null : entry.folder],
  ];
  return rows.filter(([, value]) => value != null && value !== "").map(([name, value]) => [name, String(value)]);
}

/** The state in a word, for all but finished runs. @param {Entry} entry */
export function stateLabel({ state }) {
  return t(STATES[state] ?? "");
}
