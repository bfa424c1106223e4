/** Holds the runs of a library whose manifests are part of a page. */

import { readEntry } from "./library-entry.mjs";
import { readManifest } from "./sanitize.mjs";

/** The runs of a page, below its folder. @implements {import("./library-source.mjs").Runs} */
export class EmbeddedRuns {
  #entries;
  #manifests;

  /** @param {object[]} saved entries of runs, each with the `manifest` of the run or null */
  constructor(saved) {
    this.root = "";
    const read = saved.map((value) => [readEntry(value), value?.manifest]).filter(([entry]) => entry);
    this.#entries = read.map(([entry]) => entry).sort((a, b) => b.started - a.started);
    this.#manifests = new Map(read.map(([{ id }, manifest]) => [id, manifest]));
  }

  entries() {
    return this.#entries;
  }

  total() {
    return this.#entries.length;
  }

  reachable() {
    return true;
  }

  onChange() {}

  small(entry) {
    return entry.thumbnail ? this.picture(entry, entry.thumbnail) : null;
  }

  picture({ folder }, file) {
    return `./${pathOf(folder)}${encodeURIComponent(file)}`;
  }

  folderLink({ folder }) {
    return `./${pathOf(folder)}`;
  }

  source(ids) {
    const entries = new Map(this.#entries.map((entry) => [entry.id, entry]));
    const runs = ids.map((id) => entries.get(id)).filter(Boolean).map((entry) => {
      const { id, state, index, total, started, written } = entry;
      return { id, state, index, total, started, written, gone: false, manifest: readManifest(this.#manifests.get(id) ?? {}) };
    });
    return {
      runs: () => runs,
      manifest: async (id) => runs.find((run) => run.id === id)?.manifest ?? null,
      picture: (id, file) => this.picture(entries.get(id), file),
      onChange: () => () => {},
    };
  }
}

/** The path of a folder for an address; the folder of the page for one that leads out of it. */
function pathOf(folder) {
  const parts = (folder ?? "").split("/").filter((part) => part && part !== ".");
  return parts.includes("..") ? "" : parts.map((part) => `${encodeURIComponent(part)}/`).join("");
}
