/** What is known of runs, each under the place that shows it: a node of a workflow. */

const MAX_RUNS = 200;
const RUNNING = "running";
const FORMAT = "safelight.run/1";

/**
 * @typedef {object} Place
 * @property {string} workflow id of the workflow
 * @property {string} node execution id of the node, `6:2` in a subgraph
 * @property {number} [until] only runs that began until then, in milliseconds by the server's clock
 *
 * @typedef {object} Run
 * @property {string} id
 * @property {string | null} workflow
 * @property {string} node
 * @property {"running" | "finished" | "interrupted" | "failed"} state
 * @property {number | null} index the newest step that is known to exist, counted from 1
 * @property {number | null} total
 * @property {number} started milliseconds by the server's clock; Infinity until it has said so
 * @property {number} told counts up with each run that this page hears of
 * @property {boolean} gone the server has it no more
 * @property {object | null} manifest as last read, with the steps that were told since
 * @property {boolean} stale the server has more of it than `manifest` says
 * @property {{file: string, at: number | null} | null} thumbnail
 * @property {number} heard when the last event of it came, by this page's clock
 */

export class Store {
  #ask;
  #runs = new Map();
  #reading = new Map();
  #listeners = new Set();
  #told = 0;

  /** @param {(path: string) => Promise<Response>} ask fetches a path below `/safelight`, never from a cache */
  constructor(ask) {
    this.#ask = ask;
  }

  /** Calls `listener` whenever something has changed, until the function that it returns is called. */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes in an event of the server, `safelight.step` or `safelight.run`; newer kinds of events are left alone. */
  tell(facts) {
    if (facts?.v !== 1 || !facts.run || !facts.node) return;
    const run = this.#run(facts.run, facts.workflow, facts.node);
    const ended = settle(run, facts.state);
    run.index = Math.max(run.index ?? 0, facts.index ?? 0) || null;
    run.total = facts.total ?? run.total;
    if (facts.index != null && facts.files) {
      const { index, sigma = null, at = null, files, decode_ms = null } = facts;
      run.news.push({ index, sigma, at, files, decode_ms });
      run.manifest &&= withSteps(run.manifest, run.news);
    }
    const unread = facts.index != null && (!facts.files || !run.manifest?.picture);
    run.stale ||= ended || unread || (facts.notes ?? 0) > (run.manifest?.notes?.length ?? 0);
    run.heard = Date.now();
    this.#changed();
  }

  /**
   * What a viewer sees of some places. A workflow that is saved under another name has a new id; its node keeps the
   * runs that it had.
   *
   * @param {() => Place[]} places where the node is now
   * @param {(path: string) => string} address of a path on the server
   * @returns {import("./types.mjs").Source}
   */
  source(places, address) {
    const had = new Set();
    return {
      runs: () => {
        this.of(places()).forEach(({ id }) => had.add(id));
        return [...had].map((id) => this.#runs.get(id)).filter(Boolean).sort(newestFirst);
      },
      manifest: (id) => this.manifest(id),
      picture: (id, file, at) => address(pictureAddress(id, file, at)),
      onChange: (listener) => this.onChange(listener),
    };
  }

  /** The runs of these places, newest first. @param {Place[]} places @returns {Run[]} */
  of(places) {
    const isAt = (run, { workflow, node, until = Infinity }) => run.workflow === workflow && run.node === node && run.started <= until;
    const here = (run) => places.some((place) => isAt(run, place));
    return [...this.#runs.values()].filter(here).sort(newestFirst);
  }

  /** @param {Place[]} places @returns {Run | null} */
  newest(places) {
    return this.of(places)[0] ?? null;
  }

  /** Asks the server which runs a place has: after a reload it is the only one who knows. @param {Place} place */
  async list(place) {
    const before = this.of([place]);
    const query = new URLSearchParams({ workflow: place.workflow, node: place.node });
    const listed = await this.#json(`/safelight/runs?${query}`);
    if (!Array.isArray(listed)) return;
    for (const summary of listed) {
      const run = this.#run(summary.id, place.workflow, place.node);
      settle(run, summary.state);
      learnStart(run, summary.started);
      run.thumbnail = summary.thumbnail ? { file: summary.thumbnail, at: summary.at ?? null } : run.thumbnail;
      run.total ??= summary.total ?? null;
      run.stale ||= run.manifest !== null && differs(run.manifest, summary);
    }
    const there = new Set(listed.map(({ id }) => id));
    before.filter(({ id }) => !there.has(id)).forEach(lose);
    this.#changed();
  }

  /** A run's manifest as of now, or null if it cannot be had. Those who ask while it is on its way share it. */
  manifest(id) {
    if (!this.#reading.has(id)) {
      this.#reading.set(id, this.#read(id).finally(() => this.#reading.delete(id)));
    }
    return this.#reading.get(id);
  }

  async #read(id) {
    const run = this.#runs.get(id);
    if (!run || run.gone) return null;
    const manifest = await this.#json(`/safelight/runs/${encodeURIComponent(id)}`);
    if (manifest === undefined) {
      lose(run);
      this.#changed();
    }
    if (manifest?.format !== FORMAT) return null;
    run.news = run.news.filter((step) => !manifest.steps.some(({ index, at }) => index === step.index && at >= step.at));
    run.manifest = withSteps(manifest, run.news);
    run.stale = false;
    settle(run, manifest.state);
    learnStart(run, manifest.started);
    run.total ??= manifest.sampler?.steps ?? null;
    run.index = Math.max(run.index ?? 0, manifest.steps.at(-1)?.index ?? 0) || null;
    this.#changed();
    return run.manifest;
  }

  /** What the server answers: undefined if there is no such thing, null if it cannot be reached or understood. */
  async #json(path) {
    try {
      const reply = await this.#ask(path);
      if (reply.status === 404) return undefined;
      return reply.ok ? await reply.json() : null;
    } catch {
      return null; // a server that is away for a moment; the next event or the next reconnection asks again
    }
  }

  #run(id, workflow, node) {
    if (!this.#runs.has(id)) {
      this.#forget();
      const unknown = { state: RUNNING, index: null, total: null, started: Infinity, gone: false, manifest: null };
      const empty = { stale: false, thumbnail: null, news: [], heard: 0 };
      this.#runs.set(id, { id, workflow: workflow ?? null, node, ...unknown, ...empty, told: ++this.#told });
    }
    return this.#runs.get(id);
  }

  #forget() {
    if (this.#runs.size < MAX_RUNS) return;
    const oldest = [...this.#runs.values()].sort(newestFirst).at(-1);
    this.#runs.delete(oldest.id);
  }

  #changed() {
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Where a picture of a run is. A step that is written twice has the same name twice, so its time goes along. */
export function pictureAddress(id, file, at) {
  return `/safelight/runs/${encodeURIComponent(id)}/${encodeURIComponent(file)}${at == null ? "" : `?at=${at}`}`;
}

function withSteps(manifest, news) {
  const steps = new Map(manifest.steps.map((step) => [step.index, step]));
  for (const step of news) steps.set(step.index, step);
  return { ...manifest, steps: [...steps.values()].sort((a, b) => a.index - b.index) };
}

/** Whether the server's summary of a run tells of more than what was read. */
function differs(manifest, summary) {
  return manifest.state !== summary.state || manifest.steps.filter(({ files }) => files.length).length < summary.steps;
}

/** An end is final: what is read later may have been written before it. Whether this is the end. */
function settle(run, state) {
  const before = run.state;
  if (run.state === RUNNING && state) run.state = state;
  return run.state !== before;
}

function lose(run) {
  run.gone = true;
  settle(run, "interrupted");
}

function learnStart(run, started) {
  const at = Date.parse(started);
  if (!Number.isNaN(at)) run.started = at;
}

function newestFirst(a, b) {
  if (a.started === b.started) return b.told - a.told;
  return b.started > a.started ? 1 : -1;
}
