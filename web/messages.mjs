/** Shows messages over the picture: its placeholder, the run's last note with what it offers, and short results. */

import { lastNote, placeholder } from "./caption.mjs";
import { button, create } from "./elements.mjs";
import { later, t } from "./language.mjs";
import { sentText } from "./sent-texts.mjs";

const RUN_STATES = { running: later("Run running"), finished: later("Run finished"), stopped: later("Run stopped"), interrupted: later("Run canceled"), failed: later("Run failed") };
const [TOAST_MS, CHARACTER_MS] = [1600, 55]; // at least, and for each character: a sentence takes longer to read

/** @typedef {import("./types.mjs").Run} Run */

export class Messages {
  #noteText;
  /** @type {number | undefined} */ #toastTimer;
  /** @type {string | null} */ #dismissed = null;
  #offer; // button
  /** @type {{run: Run | null, note: string, name: string | undefined}} */ #shown = { run: null, note: "", name: undefined }; // the last note, and the decoder that the button downloads
  /** @type {Map<string, {done: boolean, text: string}>} */ #answers = new Map(); // by note: what came of its download
  #source;

  /**
   * @param {Document} document
   * @param {Pick<import("./types.mjs").Source, "get">} source downloads what a note of a run offers
   */
  constructor(document, source) {
    this.#source = source;
    this.placeholder = create(document, "div", { className: "placeholder" });
    this.#noteText = create(document, "button", { type: "button", className: "note-text", ariaExpanded: "false" });
    this.#noteText.addEventListener("click", () => this.#unfold(this.#noteText.ariaExpanded === "false"));
    const close = button(document, "close", t("Dismiss this note"), () => this.#dismiss());
    this.#offer = create(document, "button", { type: "button", className: "offer", hidden: true });
    this.#offer.addEventListener("click", () => this.#download());
    this.note = create(document, "div", { className: "note" }, this.#noteText, this.#offer, close);
    this.toast = create(document, "div", { className: "toast", role: "status" });
    this.announcement = create(document, "div", { className: "announcement", role: "status" });
  }

  /**
   * @param {Run | null} run
   * @param {boolean} pictured whether a picture of the run is on the screen
   * @param {string} [idle] text while there is no run
   */
  show(run, pictured, idle) {
    this.placeholder.textContent = pictured ? "" : placeholder(run, idle);
    const note = run?.gone && !pictured ? "" : lastNote(run); // the placeholder says that the pictures are gone
    this.#showNote(run, note);
    this.note.classList.toggle("failed", run?.state === "failed");
    const state = run ? t(RUN_STATES[run.state]) : "";
    if (this.announcement.textContent !== state) this.announcement.textContent = state; // not each step: a screen reader would never stop
  }

  /** Shows a result for a moment. @param {string} text */
  showToast(text) {
    this.toast.textContent = text;
    this.toast.classList.add("shown");
    clearTimeout(this.#toastTimer);
    this.#toastTimer = setTimeout(() => this.toast.classList.remove("shown"), Math.max(TOAST_MS, CHARACTER_MS * text.length));
  }

  /** @param {Run | null} run @param {string} note */
  #showNote(run, note) {
    if (note !== this.#shown.note) this.#unfold(false);
    const answer = this.#answers.get(note);
    const text = note === this.#dismissed ? "" : (answer?.text ?? sentText(note));
    this.#noteText.textContent = this.#noteText.title = text;
    const offers = run?.manifest?.offers ?? {};
    const name = this.#source.get && text && !answer?.done && Object.hasOwn(offers, note) ? offers[note] : undefined;
    this.#shown = { run, note, name };
    this.#offer.hidden = !name;
    this.#offer.textContent = name ? t("Get {name}", { name }) : "";
  }

  /** Downloads what the note offers. After an error the button stays, for another try. */
  async #download() {
    const { run, note, name } = this.#shown;
    if (!this.#source.get || !run || name === undefined) return;
    this.#answers.set(note, { done: true, text: t("{name} is being downloaded …", { name }) });
    this.#showNote(run, note);
    this.#answers.set(note, await this.#source.get(run.id, name));
    if (this.#shown.note === note) this.#showNote(run, note);
  }

  /** Shows the whole note, or its first two lines. @param {boolean} unfolded */
  #unfold(unfolded) {
    this.#noteText.ariaExpanded = String(unfolded);
  }

  #dismiss() {
    this.#dismissed = this.#shown.note;
    this.#showNote(this.#shown.run, this.#dismissed);
  }
}
