/** What the viewer says in words over its picture, and in place of it. */

import { inPlaceOfPicture, lastNote } from "./caption.mjs";
import { button, make } from "./elements.mjs";

const TOAST_MS = 1600;

export class Telling {
  #said;
  #hiding;
  #putAway = null;

  /** @param {Document} document */
  constructor(document) {
    this.words = make(document, "div", { className: "words" });
    this.#said = make(document, "span", { className: "said" });
    const close = button(document, "close", "Put this note away", () => this.#dismiss());
    this.note = make(document, "div", { className: "note" }, this.#said, close);
    this.toast = make(document, "div", { className: "toast", role: "status" });
    this.spoken = make(document, "div", { className: "spoken", role: "status" });
  }

  /**
   * @param {import("./types.mjs").Run | null} run
   * @param {boolean} pictured whether a picture of it is on the screen
   * @param {string} [idle] what to say while there is no run
   */
  show(run, pictured, idle) {
    this.words.textContent = pictured ? "" : inPlaceOfPicture(run, idle);
    const told = run?.gone && !pictured ? "" : lastNote(run); // that it is gone, the words say
    this.#said.textContent = this.#said.title = told === this.#putAway ? "" : told;
    this.note.classList.toggle("failed", run?.state === "failed");
    const state = run ? `Run ${run.state}` : "";
    if (this.spoken.textContent !== state) this.spoken.textContent = state; // not each step: a screen reader would never be silent
  }

  /** What came of something, for a moment. */
  briefly(text) {
    this.toast.textContent = text;
    this.toast.classList.add("shown");
    clearTimeout(this.#hiding);
    this.#hiding = setTimeout(() => this.toast.classList.remove("shown"), TOAST_MS);
  }

  #dismiss() {
    this.#putAway = this.#said.title;
    this.#said.textContent = this.#said.title = "";
  }
}
