/** Stores the runs of ComfyUI's server and finds those of a node. */

import { startMs } from "./manifest.mjs";
import { ServerSource } from "./server-source.mjs";

/** @typedef {import("./node-place.mjs").Place & {until?: number}} Place `until` excludes runs that began later */

export class RunStore extends ServerSource {
  /** @param {(path: string, method?: string) => Promise<Response>} request fetches a path of ComfyUI's server, never from a cache */
  constructor(request) {
    super(request, "/safelight/runs", true);
  }

  /** Requests the list of a place's runs. After a reload of the page only the server knows them. @param {Place} place */
  list({ workflow, node }) {
    return super.list({ workflow, node });
  }

  /**
   * The run whose result ComfyUI took from its cache for a prompt that has ended; null if there is none.
   *
   * @param {Place} place of the node @param {string} prompt its id
   * @returns {Promise<{id: string, workflow: string | null, started: number} | null>}
   */
  async cached({ workflow, node }, prompt) {
    const found = await this.json(`/safelight/cached?${new URLSearchParams({ prompt, workflow, node })}`);
    return found ? { id: found.id, workflow: found.workflow, started: startMs(found) } : null;
  }

  /** The runs of these places, newest first. @param {Place[]} places */
  of(places) {
    /** @param {import("./server-source.mjs").ServerRun} run @param {Place} place */
    const isAt = (run, { workflow, node, until = Infinity }) => run.workflow === workflow && run.node === node && run.started <= until;
    return this.runs().filter((run) => places.some((place) => isAt(run, place)));
  }

  /**
   * The path of a picture as a file to save.
   *
   * @param {string} id @param {string} file @param {number | null} frame of a video, counted from 0; null for all
   */
  exported(id, file, frame) {
    return `${this.path(id)}/exports/${encodeURIComponent(file)}${frame === null ? "" : `?frame=${frame}`}`;
  }

  /** The path of a file that a run has written. @param {string} id @param {string} file its path in the folder of the prompt's first run */
  written(id, file) {
    return `${this.path(id)}/written/${file.split("/").map(encodeURIComponent).join("/")}`;
  }

  /** The workflow and the prompt of a run; undefined if it has none, null if the server cannot be reached. @param {string} id */
  workflow(id) {
    return this.json(`${this.path(id)}/workflow`);
  }

  /**
   * The source of a node's viewer. It keeps the runs of earlier places: "Save as" gives a workflow a new id.
   *
   * @param {() => Place[]} places current places of the node
   * @param {(path: string) => string} address turns a path on the server into an address
   * @returns {import("./types.mjs").Source & {hasAny: (ids: string[]) => boolean}} `hasAny`: whether it has one of these runs
   */
  source(places, address) {
    const ids = new Set();
    const update = () => this.of(places()).forEach(({ id }) => ids.add(id));
    return {
      runs: () => (update(), this.runs().filter(({ id }) => ids.has(id))),
      hasAny: (changed) => (update(), changed.some((id) => ids.has(id))),
      manifest: (id) => this.manifest(id),
      get: (id, name) => this.get(id, name),
      control: (...request) => this.control(...request),
      picture: (...file) => address(this.picture(...file)),
      exported: (...file) => address(this.exported(...file)),
      written: (...file) => address(this.written(...file)),
      onChange: (listener) => this.onChange(listener),
    };
  }
}
