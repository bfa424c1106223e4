/** Reads the runs of a library from a server, and changes them there. */

import { later, t } from "./language.mjs";
import { readEntry } from "./library-entry.mjs";
import { readManifest } from "./sanitize.mjs";
import { sentText } from "./sent-texts.mjs";

/** @typedef {import("./library-entry.mjs").Entry} Entry @typedef {import("./types.mjs").Run} Run */

/**
 * Where a library gets its runs.
 *
 * @typedef {object} Runs
 * @property {() => Entry[]} entries newest first
 * @property {() => number | null} total number of runs; null until it is known
 * @property {() => boolean} reachable
 * @property {string} root path of the folder of all runs, which is put before `folder` of a run; empty if unknown
 * @property {(listener: () => void) => void} onChange calls `listener` after each change
 * @property {(entry: Entry) => string | null} small address of a tile's picture
 * @property {(ids: string[]) => import("./types.mjs").Source} source of a viewer that shows these runs
 * @property {(entry: Entry, file: string) => string} picture address of a picture, of the contact sheet, of the animation
 * @property {(entry: Entry) => string | null} [folderLink] address of the run's folder, if a browser can open one
 * @property {(id: string, action: string, body?: object) => Promise<Result>} [act] changes a run; absent: read only
 * @property {(token: string) => Promise<Result>} [undo] brings a deleted run back
 * @property {() => Promise<import("./library-trash.mjs").DeletedRun[] | null>} [trash] the deleted runs
 *
 * @typedef {{done: boolean, text: string, undo?: string, live?: string, run?: {star?: unknown, note?: unknown}}} Result whether it was
 *   done, and that in words, or empty; a token that undoes it, the address of the live copy of a deleted run, the changed run
 *
 * @typedef {{runs: unknown[], removed?: unknown, whole?: unknown, version?: unknown, total?: unknown, path?: unknown}} Answer a
 *   server's list of runs, or of what has changed in it
 */

const FIRST_PAGE = 200; // runs that are requested alone, so that the first tiles appear soon
const RECENT = 20; // runs that may be running
const RUNNING_INTERVAL_MS = 1000;
const SILENT_MS = 600_000; // a run without an update for so long was killed
const UNREACHABLE = later("The server cannot be reached. Try again.");

/** The runs of a server. @implements {Runs} */
export class ServerRuns {
  root = "";
  #request;
  #base;
  #address;
  /** @type {Map<string, Entry>} */ #entries = new Map(); // by id
  /** @type {Entry[] | null} */ #sorted = null; // newest first
  /** @type {Map<string, Run>} */ #runs = new Map(); // by id: what a viewer shows
  /** @type {string | null} */ #version = null;
  /** @type {number | null} */ #total = null;
  #reachable = true;
  /** @type {Set<() => void>} */ #listeners = new Set();
  /** @type {Promise<void> | null} */ #asking = null; // the answer that is awaited

  /**
   * @param {(path: string, options?: RequestInit) => Promise<Response>} request fetches a path, never from a cache
   * @param {string} base path of the library
   * @param {(path: string) => string} [address] turns a path into an address for `img.src`
   */
  constructor(request, base, address = (path) => path) {
    this.#request = request;
    this.#base = base;
    this.#address = address;
  }

  entries() {
    this.#sorted ??= [...this.#entries.values()].sort((a, b) => b.started - a.started);
    return this.#sorted;
  }

  total() {
    return this.#total;
  }

  reachable() {
    return this.#reachable;
  }

  /** @param {() => void} listener */
  onChange(listener) {
    this.#listeners.add(listener);
  }

  /** Milliseconds until the next `poll`. @param {number} idle_ms while no run goes on */
  interval(idle_ms) {
    return this.entries().slice(0, RECENT).some(isRunning) ? RUNNING_INTERVAL_MS : idle_ms;
  }

  /** Requests what has changed. Parallel calls share one request. */
  poll() {
    this.#asking ??= this.#poll().finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #poll() {
    const known = this.#version;
    await this.#ask(known === null ? `limit=${FIRST_PAGE}` : `since=${encodeURIComponent(known)}`);
    if (known === null && this.#reachable && this.#version === null) await this.#ask("");
  }

  /** @param {string} query */
  async #ask(query) {
    const answer = await this.#json(query ? `${this.#base}?${query}` : this.#base);
    const reachable = Array.isArray(answer?.runs);
    const changed = reachable && (answer.whole === true || answer.runs.length > 0 || answer.removed?.length > 0 || this.#total !== answer.total);
    if (reachable) this.#read(answer);
    if (changed || reachable !== this.#reachable) {
      this.#reachable = reachable;
      this.#notify();
    }
  }

  /** @param {Answer} answer */
  #read({ runs, removed, whole, version, total, path }) {
    const old = this.#entries;
    if (whole) this.#entries = new Map();
    for (const value of runs) this.#store(value, old);
    for (const id of Array.isArray(removed) ? removed : []) this.#entries.delete(id);
    for (const [id, run] of this.#runs) run.gone = !this.#entries.has(id);
    this.#version = typeof version === "string" ? version : null;
    this.#total = typeof total === "number" && Number.isInteger(total) ? total : this.#entries.size;
    this.root = typeof path === "string" ? path : "";
    this.#sorted = null;
  }

  /**
   * Stores an entry. An unchanged one stays the same object, with what was prepared for a search.
   *
   * @param {unknown} value @param {Map<string, Entry>} old
   */
  #store(value, old) {
    const entry = readEntry(value);
    if (!entry) return;
    const before = old.get(entry.id);
    const isSame = before !== undefined && JSON.stringify(before) === JSON.stringify(entry);
    this.#entries.set(entry.id, isSame ? before : entry);
    const run = this.#runs.get(entry.id);
    if (!run || isSame) return;
    Object.assign(run, { state: entry.state, index: entry.index, total: entry.total, written: entry.written });
    run.stale ||= entry.state === "running" || entry.version !== before?.version || entry.state !== before?.state;
  }

  /** @param {Entry} entry */
  small({ id, thumbnail, at, version }) {
    if (!thumbnail) return null;
    return this.#address(`${this.#path(id)}/small/${encodeURIComponent(thumbnail)}?at=${at ?? ""}-${encodeURIComponent(version ?? "")}`);
  }

  /** @param {Pick<Entry, "id" | "at">} entry @param {string} file */
  picture({ id, at }, file) {
    return this.#address(`${this.#path(id)}/${encodeURIComponent(file)}${at == null ? "" : `?at=${at}`}`);
  }

  /** @param {string[]} ids @returns {import("./types.mjs").Source} */
  source(ids) {
    return {
      runs: () => ids.map((id) => this.#run(id)).filter((run) => run !== undefined),
      manifest: (id) => this.#manifest(id),
      picture: (id, file, at) => this.picture({ id, at }, file),
      onChange: (listener) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
    };
  }

  /** @param {string} id */
  #run(id) {
    const entry = this.#entries.get(id);
    if (!this.#runs.has(id) && entry) {
      const { state, index, total, started, written, thumbnail, at } = entry;
      const picture = thumbnail ? { file: thumbnail, at } : null;
      this.#runs.set(id, { id, state, index, total, started, written, gone: false, manifest: null, stale: false, thumbnail: picture });
    }
    return this.#runs.get(id);
  }

  /** @param {string} id */
  async #manifest(id) {
    const run = this.#runs.get(id);
    const answer = await this.#json(this.#path(id));
    if (!run || !answer?.id) return null;
    Object.assign(run, { manifest: readManifest(answer), stale: false });
    this.#notify();
    return run.manifest;
  }

  /** @param {string} id @param {string} action @param {object} [body] */
  async act(id, action, body = {}) {
    const answer = await this.#post(`${this.#path(id)}/${action}`, body);
    if (answer.done) {
      if (action === "delete") this.#forget(id);
      else if (answer.run) this.#replace(answer.run);
      this.poll();
    }
    return answer;
  }

  /** @param {string} token */
  async undo(token) {
    const answer = await this.#post(`${this.#base}/undo`, { undo: token });
    if (answer.done) await this.poll();
    return answer;
  }

  async trash() {
    const answer = await this.#json(`${this.#base}/trash`);
    /** @param {Record<string, unknown> | null} run */
    const isOne = (run) => ["undo", "folder", "deleted"].every((key) => typeof run?.[key] === "string");
    return Array.isArray(answer) ? answer.filter(isOne) : null;
  }

  /** @param {string} id */
  #forget(id) {
    this.#entries.delete(id);
    this.#total = Math.max(0, (this.#total ?? 0) - 1);
    this.#sorted = null;
    this.#notify();
  }

  /** @param {unknown} value */
  #replace(value) {
    this.#store(value, this.#entries);
    this.#sorted = null;
    this.#notify();
  }

  /** @param {string} path @param {object} body @returns {Promise<Result>} */
  async #post(path, body) {
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    try {
      const reply = await this.#request(path, options);
      const answer = await reply.json();
      return reply.ok ? { done: true, ...answer, text: sentText(answer.text) } : { done: false, text: sentText(answer.error) };
    } catch {
      return { done: false, text: t(UNREACHABLE) };
    }
  }

  /** @param {string} path */
  async #json(path) {
    try {
      const reply = await this.#request(path);
      return reply.ok ? await reply.json() : null;
    } catch {
      return null; // the next poll asks again
    }
  }

  /** @param {string} id */
  #path(id) {
    return `${this.#base}/${encodeURIComponent(id)}`;
  }

  #notify() {
    for (const listener of [...this.#listeners]) listener();
  }
}

/** @param {Entry} entry */
function isRunning({ state, written }) {
  return state === "running" && (written === null || Date.now() - written < SILENT_MS);
}
