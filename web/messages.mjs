/** Shows messages over the picture: its placeholder, the run's last note, and short results. */

import { lastNote, placeholder } from "./caption.mjs";
import { button, create } from "./elements.mjs";

const TOAST_MS = 1600;

export class Messages {
  #noteText;
  #toastTimer;
  #dismissed = null;

  /** @param {Document} document */
  constructor(document) {
    this.placeholder = create(document, "div", { className: "placeholder" });
    this.#noteText = create(document, "span", { className: "note-text" });
    const close = button(document, "close", "Dismiss this note", () => this.#dismiss());
    this.note = create(document, "div", { className: "note" }, this.#noteText, close);
    this.toast = create(document, "div", { className: "toast", role: "status" });
    this.announcement = create(document, "div", { className: "announcement", role: "status" });
  }

  /**
   * @param {import("./types.mjs").Run | null} run
   * @param {boolean} pictured whether a picture of the run is on the screen
   * @param {string} [idle] text while there is no run
   */
  show(run, pictured, idle) {
    this.placeholder.textContent = pictured ? "" : placeholder(run, idle);
    const note = run?.gone && !pictured ? "" : lastNote(run); // the placeholder says that the pictures are gone
    this.#noteText.textContent = this.#noteText.title = note === this.#dismissed ? "" : note;
    this.note.classList.toggle("failed", run?.state === "failed");
    const state = run ? `Run ${run.state}` : "";
    if (this.announcement.textContent !== state) this.announcement.textContent = state; // not each step: a screen reader would never stop
  }

  /** Shows a result for a moment. */
  showToast(text) {
    this.toast.textContent = text;
    this.toast.classList.add("shown");
    clearTimeout(this.#toastTimer);
    this.#toastTimer = setTimeout(() => this.toast.classList.remove("shown"), TOAST_MS);
  }

  #dismiss() {
    this.#dismissed = this.#noteText.title;
    this.#noteText.textContent = this.#noteText.title = "";
  }
}
