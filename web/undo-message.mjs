/** Shows for a while what was done, with a button that undoes it. */

import { create } from "./elements.mjs";
import { t } from "./language.mjs";

const [SHOWN_MS, UNDO_MS] = [6000, 20_000]; // the second while an undo is offered

export class UndoMessage {
  #words;
  #undo;
  /** @type {number | undefined} */ #timer;

  /** @param {Document} document @param {() => void} undo called by the button */
  constructor(document, undo) {
    this.#words = create(document, "span", { className: "words", role: "status" });
    this.#undo = create(document, "button", { type: "button", className: "word", textContent: t("Undo"), hidden: true });
    this.#undo.addEventListener("click", undo);
    this.element = create(document, "div", { className: "said" }, this.#words, this.#undo);
  }

  /** @param {string} text @param {boolean} [canUndo] whether the button is shown */
  show(text, canUndo = false) {
    clearTimeout(this.#timer);
    this.#words.textContent = text;
    this.#undo.hidden = !canUndo;
    this.#timer = setTimeout(() => (this.#words.textContent = ""), canUndo ? UNDO_MS : SHOWN_MS);
  }
}
