/** Puts the library into a tab of ComfyUI's sidebar. */

import { namedFile } from "./export.mjs";
import { t } from "./language.mjs";
import { Library } from "./library.mjs";
import { readChoices, writeChoices } from "./library-choices.mjs";
import { ServerRuns } from "./library-source.mjs";

const POLL_MS = 4000;

/**
 * The parts of ComfyUI that the tab uses.
 *
 * @typedef {object} Host
 * @property {Document} document
 * @property {(path: string, options?: RequestInit) => Promise<Response>} request fetches a path, with the browser's key
 * @property {(path: string) => string} address turns a path into an address
 * @property {(file: File) => Promise<void>} openFile opens the workflow in a picture
 * @property {(id: string | undefined) => void} onDeleted called after a run was deleted, with the address of its live copy
 * @property {() => void} onRestored called after a deleted run was brought back
 */

export class LibraryTab {
  #host;
  #source;
  /** @type {Library | null} */ #library = null;
  /** @type {number | undefined} */ #timer;

  /** @param {Host} host */
  constructor(host) {
    this.#host = host;
    this.#source = new ServerRuns(host.request, "/safelight/library", host.address);
  }

  /** Shows the library in an element of the sidebar. @param {HTMLElement} element */
  show(element) {
    Object.assign(element.style, { height: "100%", overflow: "hidden" });
    element.replaceChildren(this.#open().element);
    this.poll();
  }

  #open() {
    const { document, onDeleted, onRestored } = this.#host;
    this.#library ??= new Library(document, this.#source, {
      view: readChoices(document),
      onView: (view) => writeChoices(document, view),
      empty: t("Runs appear here when a sampler behind Preview Steps begins."),
      onDeleted,
      onRestored,
      openWorkflow: (entry, address) => this.#openWorkflow(entry, address),
    });
    return this.#library;
  }

  /**
   * Changes a run from elsewhere on the page.
   *
   * @param {string} id @param {string} action @param {object} [body] as for `Runs.act`
   */
  async act(id, action, body) {
    const answer = await this.#source.act(id, action, body);
    if (answer.done) this.#open().offerUndo(answer);
    return answer;
  }

  /** Brings a deleted run back. @param {string} token */
  undo(token) {
    return this.#source.undo(token);
  }

  /** Requests what has changed, while the tab is on the screen. */
  async poll() {
    clearTimeout(this.#timer);
    if (!this.#library?.element.isConnected) return;
    if (!this.#host.document.hidden) await this.#source.poll();
    clearTimeout(this.#timer); // of a call in the meantime
    this.#timer = setTimeout(() => this.poll(), this.#source.interval(POLL_MS));
  }

  /**
   * Opens the workflow that a picture contains, as ComfyUI does with a dropped file.
   *
   * @param {import("./library-entry.mjs").Entry} entry @param {string} address
   */
  async #openWorkflow({ live, id, folder, thumbnail }, address) {
    if (!thumbnail) throw new Error(t("the picture is gone"));
    const { request, openFile } = this.#host;
    const exported = `/safelight/runs/${encodeURIComponent(id)}/exports/${encodeURIComponent(thumbnail)}`;
    const answer = live ? await request(exported) : await fetch(address);
    if (!answer.ok) throw new Error(t("the picture is gone"));
    const content = await answer.blob();
    // The tab gets the name of the file: never that of a live run's address, which is secret.
    const name = live ? namedFile(answer.headers.get("Content-Disposition")) : `${(folder ?? id).split("/").at(-1)}.${thumbnail.split(".").at(-1)}`;
    await openFile(new File([content], name, { type: content.type }));
  }
}
