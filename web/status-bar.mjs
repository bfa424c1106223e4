/** Shows the caption below the strip, with the buttons for playback. */

import { button, create, setButton, targetOf } from "./elements.mjs";
import { plural, t } from "./language.mjs";

const PARTS = ["step", "fault", "sigma", "time", "settled", "files", "decoder", "truth", "rate", "size", "decode"]; // if space is short, the last ones are hidden

export class StatusBar {
  #document;
  /** @type {Record<string, HTMLElement>} */ #parts = {};
  #texts;
  #play;
  #speed;

  /** @type {number | null} */ #settled = null; // step

  /**
   * @param {Document} document
   * @param {{play: () => void, changeSpeed: (direction: 1 | -1) => void, showTruth: () => void, figures: () => void,
   *   goTo: (index: number) => void, copyPath: () => void}} commands
   */
  constructor(document, { play, changeSpeed, showTruth, figures, goTo, copyPath }) {
    this.#document = document;
    for (const name of PARTS) this.#parts[name] = create(document, "span", { className: name });
    this.#parts.truth = button(document, "", "", showTruth, "truth");
    this.#parts.settled = button(document, "", "", () => this.#settled !== null && goTo(this.#settled), "settled");
    this.#parts.files = button(document, "", "", copyPath, "files");
    this.#texts = create(document, "div", { className: "parts" }, ...Object.values(this.#parts));
    this.#texts.addEventListener("click", (event) => targetOf(event).closest("button") || figures());
    this.#play = button(document, "play", "", play, "play");
    this.#speed = button(document, "8/s", "", (event) => changeSpeed(event.shiftKey ? -1 : 1), "speed fading");
    this.element = create(document, "div", { className: "caption" }, this.#play, this.#texts, this.#speed);
  }

  /**
   * @param {Record<string, string>} texts of `caption`
   * @param {number | null} total number of steps, which reserves width for the largest step
   * @param {number | null} settled step at which the picture settled
   * @param {Record<string, string>} [short] of `shortTexts`: what a narrow viewer shows in place of a text
   */
  setCaption(texts, total, settled, short = {}) {
    this.#settled = settled;
    this.#parts.settled.title = this.#parts.settled.ariaLabel = texts.settled ? t("The picture settled at step {step}; click to go there", { step: settled ?? "" }) : "";
    for (const name of PARTS) this.#setText(name, texts[name] ?? "", short[name]);
    this.#parts.files.title = this.#parts.files.ariaLabel = texts.files ? t("{files}; click to copy the path", { files: texts.files }) : "";
    this.#parts.truth.title = this.#parts.truth.ariaLabel = texts.truth ? t("{truth}: show how the steps approach the last preview", { truth: texts.truth }) : "";
    this.#parts.step.style.minWidth = texts.step ? `${String(total ?? "").length * 2 + 5.2}ch` : "";
    this.#texts.title = PARTS.map((name) => texts[name]).filter(Boolean).join("  ·  ");
  }

  /**
   * Replaces a text that has changed: the browser lays out the page for each one.
   *
   * @param {string} name @param {string} text @param {string} [short]
   */
  #setText(name, text, short) {
    const part = this.#parts[name];
    if (part.textContent === text) return;
    if (short) part.replaceChildren(create(this.#document, "span", { textContent: text }));
    else part.textContent = text;
    if (short) part.dataset.short = short;
  }

  /** @param {{playing: boolean, playable: boolean, speed: number}} facts `speed` in steps per second */
  show({ playing, playable, speed }) {
    setButton(this.#document, this.#play, playing ? "pause" : "play", playing ? t("Pause (Space)") : t("Play the steps (Space)"));
    this.#play.classList.toggle("playing", playing);
    this.#play.disabled = !playable;
    setButton(this.#document, this.#speed, t("{count}/s", { count: speed }), plural(speed, "{count} step per second; click for another speed", "{count} steps per second; click for another speed"));
  }
}
