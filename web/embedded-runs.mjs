/** Holds the runs of a library whose manifests are part of a page. */

import { readEntry } from "./library-entry.mjs";
import { readManifest } from "./sanitize.mjs";

/** @typedef {import("./library-source.mjs").Runs} Runs @typedef {import("./library-entry.mjs").Entry} Entry */

/** The runs of a page, below its folder. @implements {Runs} */
export class EmbeddedRuns {
  #entries;
  #manifests;

  /** @param {{manifest?: unknown}[]} saved entries of runs, each with the `manifest` of the run or null */
  constructor(saved) {
    this.root = "";
    const read = saved.flatMap((value) => {
      const entry = readEntry(value);
      return entry ? [{ entry, manifest: value.manifest }] : [];
    });
    this.#entries = read.map(({ entry }) => entry).sort((a, b) => b.started - a.started);
    this.#manifests = new Map(read.map(({ entry, manifest }) => [entry.id, manifest]));
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

  /** @param {Entry} entry */
  small(entry) {
    return entry.thumbnail ? this.picture(entry, entry.thumbnail) : null;
  }

  /** @param {Pick<Entry, "folder">} entry @param {string} file */
  picture({ folder }, file) {
    return `./${pathOf(folder)}${encodeURIComponent(file)}`;
  }

  /** @param {Pick<Entry, "folder">} entry */
  folderLink({ folder }) {
    return `./${pathOf(folder)}`;
  }

  /** @param {string[]} ids @returns {import("./types.mjs").Source} */
  source(ids) {
    const entries = new Map(this.#entries.map((entry) => [entry.id, entry]));
    const runs = ids.map((id) => entries.get(id)).filter((entry) => entry !== undefined).map((entry) => {
      const { id, state, index, total, started, written } = entry;
      return { id, state, index, total, started, written, gone: false, manifest: readManifest(this.#manifests.get(id) ?? {}) };
    });
    return {
      runs: () => runs,
      manifest: async (id) => runs.find((run) => run.id === id)?.manifest ?? null,
      picture: (id, file) => this.picture(entries.get(id) ?? { folder: null }, file),
      onChange: () => () => {},
    };
  }
}

/** The path of a folder for an address; the folder of the page for one that leads out of it. @param {string | null} folder */
function pathOf(folder) {
  const parts = (folder ?? "").split("/").filter((part) => part && part !== ".");
  return parts.includes("..") ? "" : parts.map((part) => `${encodeURIComponent(part)}/`).join("");
}
