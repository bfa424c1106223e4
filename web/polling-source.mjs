/** The runs of `safelight view`: a server that tells of them when it is asked. */

import { isSilent, newestStep, startOf } from "./manifest.mjs";
import { countOf, readManifest } from "./sanitize.mjs";

/** After so long it is asked again. */
const WHILE_RUNNING_MS = 1000;
export const WHILE_QUIET_MS = 4000;

/** Runs that a server tells of when it is asked; it is asked again and again, and more often while a run goes on. */
export class Polled {
  #ask;
  #runs = new Map();
  #listeners = new Set();

  /** Whether the server answered when it was asked last. */
  reached = true;

  /** @param {(path: string) => Promise<Response>} ask fetches a path next to the page, never from a cache */
  constructor(ask) {
    this.#ask = ask;
  }

  runs() {
    return [...this.#runs.values()].sort((a, b) => b.started - a.started);
  }

  picture(id, file, at) {
    return `runs/${encodeURIComponent(id)}/${encodeURIComponent(file)}${at == null ? "" : `?at=${at}`}`;
  }

  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Asks which runs there are. @returns {Promise<number>} milliseconds after which to ask again */
  async look() {
    const listed = await this.#json("runs");
    const reached = Array.isArray(listed);
    let changed = reached !== this.reached;
    this.reached = reached;
    if (reached) changed = this.#take(listed) || changed;
    if (changed) this.#tell();
    const goesOn = (run) => run.state === "running" && !run.gone && !isSilent(run, Date.now());
    return this.runs().some(goesOn) ? WHILE_RUNNING_MS : WHILE_QUIET_MS;
  }

  async manifest(id) {
    const run = this.#runs.get(id);
    const version = run?.version;
    const manifest = run && readManifest(await this.#json(`runs/${encodeURIComponent(id)}`));
    if (!manifest) return null;
    Object.assign(run, { manifest, read: version, stale: run.version !== version });
    learn(run, manifest.state, newestStep(manifest)?.index, manifest.sampler?.steps);
    this.#tell();
    return manifest;
  }

  #take(listed) {
    let changed = false;
    const there = new Set(listed.map(({ id }) => id));
    for (const run of this.#runs.values()) {
      const gone = !there.has(run.id);
      changed ||= gone !== run.gone;
      run.gone = gone;
    }
    for (const summary of listed) {
      const known = this.#runs.get(summary.id);
      if (known?.version === summary.version) continue;
      const run = known ?? { id: summary.id, gone: false, manifest: null, stale: false, read: null };
      const { version, file = null, at = null } = summary;
      Object.assign(run, { version, started: startOf(summary), written: summary.written ?? null, stale: run.manifest !== null && run.read !== version });
      run.thumbnail = file === null ? null : { file, at };
      learn(run, summary.state, summary.index, summary.total);
      this.#runs.set(run.id, run);
      changed = true;
    }
    return changed;
  }

  /** What the server answers, or null. */
  async #json(path) {
    try {
      const reply = await this.#ask(path);
      return reply.ok ? await reply.json() : null;
    } catch {
      return null;
    }
  }

  #tell() {
    for (const listener of [...this.#listeners]) listener();
  }
}

function learn(run, state, index, total) {
  Object.assign(run, { state, index: countOf(index), total: countOf(total) });
}
