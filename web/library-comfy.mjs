/** Puts the library into a tab of ComfyUI's sidebar. */

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
 */

export class LibraryTab {
  #host;
  #source;
  #library = null;
  #timer;

  /** @param {Host} host */
  constructor(host) {
    this.#host = host;
    this.#source = new ServerRuns(host.request, "/safelight/library", host.address);
  }

  /** Shows the library in an element of the sidebar. @param {HTMLElement} element */
  show(element) {
    const { document } = this.#host;
    this.#library ??= new Library(document, this.#source, {
      view: readChoices(document),
      onView: (view) => writeChoices(document, view),
      empty: "Runs appear here when a sampler behind Preview Steps begins.",
      openWorkflow: (entry, address) => this.#openWorkflow(entry, address),
    });
    Object.assign(element.style, { height: "100%", overflow: "hidden" });
    element.replaceChildren(this.#library.element);
    this.poll();
  }

  /** Requests what has changed, while the tab is on the screen. */
  async poll() {
    clearTimeout(this.#timer);
    if (!this.#library?.element.isConnected) return;
    if (!this.#host.document.hidden) await this.#source.poll();
    clearTimeout(this.#timer); // of a call in the meantime
    this.#timer = setTimeout(() => this.poll(), this.#source.interval(POLL_MS));
  }

  async #openWorkflow({ live, id, thumbnail }, address) {
    const { request, openFile } = this.#host;
    const path = live ? `/safelight/runs/${encodeURIComponent(id)}/exports/${encodeURIComponent(thumbnail)}` : null;
    const answer = path ? await request(path) : await fetch(address);
    if (!answer.ok) throw new Error("the picture is gone");
    const content = await answer.blob();
    await openFile(new File([content], live ? `${id}.${content.type.split("/").at(-1)}` : thumbnail, { type: content.type }));
  }
}
