/** Reads runs from a server: ComfyUI with this package, or `safelight view`. */

import { t } from "./language.mjs";
import { picturedSteps, startMs } from "./manifest.mjs";
import { readChange, readManifest, readShare, readStepCount } from "./sanitize.mjs";
import { sentText } from "./sent-texts.mjs";

const MAX_EVENT_RUNS = 200; // a page of ComfyUI stays open for weeks
const RUN_FORMAT = "safelight.run/1";
const RUNNING = "running";

/**
 * @typedef {import("./types.mjs").Run} Run
 * @typedef {import("./types.mjs").Manifest} Manifest
 * @typedef {import("./types.mjs").ManifestStep} ManifestStep
 *
 * @typedef {{workflow?: string | null, node?: string}} Query the runs of a node
 *
 * @typedef {object} RunEvent what the server sends when a run or a step of it has changed
 * @property {number} v version of the format
 * @property {string} run its id
 * @property {string} node
 * @property {string | null} [workflow]
 * @property {Run["state"]} [state]
 * @property {number} [total]
 * @property {number | null} [index] of the step
 * @property {number | null} [sigma]
 * @property {number | null} [at]
 * @property {string[]} [files]
 * @property {string[]} [noisy_files]
 * @property {number | null} [decode_ms]
 * @property {unknown} [change]
 * @property {unknown} [not_finite]
 * @property {unknown} [truth]
 * @property {number} [notes] their number
 * @property {boolean} [paused]
 */

/**
 * A run in the server's list. Besides these keys it has `space`, `decoder`, `picture` and `sampler` as in `run.json`.
 *
 * @typedef {object} Summary
 * @property {string} id
 * @property {string | null} version changes with each change of the run; null: unknown, so its manifest is always read again
 * @property {Run["state"]} state
 * @property {string} started ISO 8601
 * @property {number | null} written last update of the run, milliseconds since 1970
 * @property {number} steps number of steps with a picture
 * @property {number | null} index newest step with a picture
 * @property {number | null} total
 * @property {string | null} thumbnail first file of that step
 * @property {number | null} at time of that step, see `ManifestStep`
 */

/**
 * A run with more keys than in `types.mjs`: the query that it was listed for, `isListed`, `version` of its last summary,
 * `newSteps` from events, and `heard`, the time of its last event.
 *
 * @typedef {Run & Query & {isListed: boolean, version: string | null, newSteps: ManifestStep[], heard: number}} ServerRun
 */

/**
 * Holds all runs that the page knows. Its user says when they may have changed: with `list`, which requests the server's
 * list, and with `receive` for each event.
 */
export class ServerSource {
  /** Whether the server answered the last request for its list. */ reachable = true;
  #request;
  #base;
  #hasEvents;
  /** @type {Map<string, ServerRun>} */ #runs = new Map(); // by id, the most recently discovered last
  /** @type {Map<string, Promise<Manifest | null>>} */ #reading = new Map(); // by id
  /** @type {Set<(ids: string[]) => void>} */ #listeners = new Set();

  /**
   * @param {(path: string, method?: string) => Promise<Response>} request fetches a path, never from a cache
   * @param {string} base path of the list of runs; each run is below it
   * @param {boolean} hasEvents whether the server sends events, so that a missing update does not mean a killed run
   */
  constructor(request, base, hasEvents) {
    this.#request = request;
    this.#base = base;
    this.#hasEvents = hasEvents;
  }

  /** All runs, newest first. */
  runs() {
    return [...this.#runs.values()].reverse().sort((a, b) => b.started - a.started);
  }

  /**
   * The path of a picture. A step that is written twice has the same file name twice, so the path contains its time.
   *
   * @param {string} id @param {string} file @param {number | null} at
   */
  picture(id, file, at) {
    return `${this.path(id)}/${encodeURIComponent(file)}${at == null ? "" : `?at=${at}`}`;
  }

  /**
   * Calls a listener after each change until the returned function is called.
   *
   * @param {(ids: string[]) => void} listener gets the ids of the changed runs; none if only `reachable` has changed
   */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Requests the list of runs.
   *
   * @param {{workflow?: string, node?: string}} [query] selects a part of the server's runs
   */
  async list(query = {}) {
    const expected = this.runs().filter((run) => Object.entries(query).every(([key, value]) => run[/** @type {keyof Query} */ (key)] === value));
    const search = new URLSearchParams(Object.entries(query)).toString();
    /** @type {Summary[] | null | undefined} */
    const summaries = await this.json(search ? `${this.#base}?${search}` : this.#base);
    const reachable = Array.isArray(summaries);
    const hasTurned = reachable !== this.reachable;
    /** @type {{id: string}[]} */
    const changed = [];
    this.reachable = reachable;
    if (reachable) {
      const ids = new Set(summaries.map(({ id }) => id));
      const missing = expected.filter(({ id }) => !ids.has(id));
      changed.push(...missing.filter((run) => run.isListed && lose(run)));
      // The list lacks runs that a script queued for this page without its key. Only their manifests show whether they exist.
      await Promise.all(missing.filter(({ isListed }) => !isListed).map(({ id }) => this.manifest(id)));
      changed.push(...summaries.reverse().filter((summary) => this.#update(summary, query)));
    }
    if (hasTurned || changed.length) this.#notify(...changed.map(({ id }) => id));
  }

  /** Adds an event, `safelight.step` or `safelight.run`. Events of other versions are ignored. @param {RunEvent} event */
  receive(event) {
    if (event?.v !== 1 || !event.run || !event.node) return;
    const { index = null, sigma = null, at = null, files, noisy_files, decode_ms = null } = event;
    const run = this.#run(event.run, { workflow: event.workflow ?? null, node: event.node });
    const { state } = run;
    run.total = event.total ?? run.total;
    learn(run, event.state, index);
    if (index !== null && files) {
      run.newSteps.push({ index, sigma, at, files, ...(noisy_files && { noisy_files }), decode_ms, change: readChange(event.change), not_finite: readShare(event.not_finite) });
      run.manifest &&= withSteps(run.manifest, run.newSteps);
    }
    const incomplete = index !== null && (!files || !run.manifest?.picture);
    run.stale ||= run.state !== state || incomplete || event.truth != null || (event.notes ?? 0) > (run.manifest?.notes.length ?? 0);
    if (typeof event.paused === "boolean") run.stale = true; // the manifest says what can be kept
    run.heard = Date.now();
    this.#notify(run.id);
  }

  /**
   * Downloads the decoder that a note of a run offers, on the server. Returns whether it is there, and that in words.
   *
   * @param {string} id @param {string} name
   */
  async get(id, name) {
    try {
      const reply = await this.#request(`${this.path(id)}/decoders/${encodeURIComponent(name)}`, "POST");
      const { file, error } = await reply.json();
      return { done: reply.ok, text: reply.ok ? t("{file} is installed. The next run can use it.", { file }) : sentText(error) };
    } catch {
      return { done: false, text: t("The server cannot be reached. Try again.") };
    }
  }

  /**
   * Asks the server to act on a running run. Returns an error in words, or nothing.
   *
   * @param {string} id @param {"pause" | "go_on" | "stop"} request @param {number} [step]
   */
  async control(id, request, step) {
    try {
      const reply = await this.#request(`${this.path(id)}/control/${request}${step == null ? "" : `?step=${step}`}`, "POST");
      const { paused, error } = await reply.json();
      if (!reply.ok) return sentText(error);
      const run = this.#runs.get(id);
      if (run?.manifest?.control) run.manifest = { ...run.manifest, control: { ...run.manifest.control, paused: paused === true } };
      this.#notify(id);
      return "";
    } catch {
      return t("The server cannot be reached. Try again.");
    }
  }

  /** Removes a run that the user has deleted, until the server lists it again. @param {string} id */
  forget(id) {
    if (this.#runs.delete(id)) this.#notify(id);
  }

  /**
   * Reads a run's manifest; null if that fails. Parallel calls share one request.
   *
   * @param {string} id
   * @returns {Promise<Manifest | null>}
   */
  manifest(id) {
    const reading = this.#reading.get(id) ?? this.#read(id).finally(() => this.#reading.delete(id));
    this.#reading.set(id, reading);
    return reading;
  }

  /** @param {string} id */
  async #read(id) {
    const run = this.#runs.get(id);
    if (!run || run.gone) return null;
    const { version } = run;
    const answer = await this.json(this.path(id));
    if (answer === undefined && lose(run)) this.#notify(id);
    const manifest = answer?.format === RUN_FORMAT ? readManifest(answer) : null;
    if (!manifest) return null;
    run.newSteps = run.newSteps.filter((step) => !manifest.steps.some(({ index, at }) => index === step.index && (at ?? 0) >= (step.at ?? 0)));
    run.manifest = withSteps(manifest, run.newSteps);
    run.stale = run.version !== version; // the list reported a change during the request
    run.started = startMs(manifest) || run.started;
    learn(run, manifest.state, manifest.steps.at(-1)?.index, manifest.sampler.steps);
    this.#notify(id);
    return run.manifest;
  }

  /** Adds a summary. Returns whether it changed anything. @param {Summary} summary @param {Query} query */
  #update(summary, query) {
    const { version = null, written = null, thumbnail, at = null } = summary;
    const run = this.#run(summary.id, query);
    run.isListed = true;
    if (!run.gone && version !== null && version === run.version) return false;
    if (run.gone || !this.#hasEvents) Object.assign(run, { gone: false, state: RUNNING }); // no event can be newer than the list
    Object.assign(run, { version, written: this.#hasEvents ? null : written, started: startMs(summary) });
    run.thumbnail = thumbnail ? { file: thumbnail, at } : null;
    learn(run, summary.state, summary.index, summary.total);
    run.stale ||= run.manifest !== null && !(run.heard && contains(run.manifest, summary));
    return true;
  }

  /** @param {string} id @param {Query} query @returns {ServerRun} */
  #run(id, query) {
    const known = this.#runs.get(id);
    if (known) return known;
    if (this.#hasEvents && this.#runs.size >= MAX_EVENT_RUNS) this.#runs.delete(this.runs().at(-1)?.id ?? "");
    /** @type {Run} */
    const run = { id, state: RUNNING, index: null, total: null, started: Infinity, written: null, gone: false, manifest: null, stale: false, thumbnail: null };
    const created = { ...run, ...query, version: null, isListed: false, newSteps: [], heard: 0 };
    this.#runs.set(id, created);
    return created;
  }

  /** @param {string} id */
  path(id) {
    return `${this.#base}/${encodeURIComponent(id)}`;
  }

  /** The server's answer: undefined for status 404, null if the server cannot be reached or understood. @param {string} path */
  async json(path) {
    try {
      const reply = await this.#request(path);
      if (reply.status === 404) return undefined;
      return reply.ok ? await reply.json() : null;
    } catch {
      return null; // the next event or the next list asks again
    }
  }

  /** @param {string[]} ids */
  #notify(...ids) {
    for (const listener of [...this.#listeners]) listener(ids);
  }
}

/** @param {Manifest} manifest @param {ManifestStep[]} newSteps @returns {Manifest} */
function withSteps(manifest, newSteps) {
  const steps = new Map(manifest.steps.map((step) => [step.index, step]));
  for (const step of newSteps) steps.set(step.index, step);
  return { ...manifest, steps: [...steps.values()].sort((a, b) => a.index - b.index) };
}

/** Whether events have already added everything that a summary reports. @param {Manifest} manifest @param {Summary} summary */
function contains(manifest, summary) {
  return manifest.state === summary.state && picturedSteps(manifest).length >= summary.steps;
}

/**
 * Adds what the server reports. An ended run never runs again: an answer may be older than the event of the end.
 *
 * @param {ServerRun} run @param {Run["state"] | undefined} state @param {unknown} index @param {unknown} [total]
 */
function learn(run, state, index, total) {
  if (state && state !== RUNNING) run.state = state;
  run.index = Math.max(run.index ?? 0, readStepCount(index) ?? 0) || null;
  run.total ??= readStepCount(total);
}

/** Marks a run that the server no longer has. Returns whether that is new. @param {ServerRun} run */
function lose(run) {
  const isNew = !run.gone;
  run.gone = true;
  if (run.state === RUNNING) run.state = "interrupted";
  return isNew;
}
