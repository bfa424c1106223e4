/** Shows the caption below the strip, with the buttons for playback. */

import { button, create, setButton } from "./elements.mjs";

const PARTS = ["step", "fault", "sigma", "time", "settled", "files", "decoder", "truth", "rate", "size", "decode"]; // if space is short, the last ones are hidden
const SHORTENED = { settled: /^(settled )(at step )(.*)$/, files: /^(\d+ files?)(.*)()$/ }; // a narrow viewer hides the middle: settled 14

export class StatusBar {
  #document;
  #parts = {};
  #texts;
  #play;
  #speed;

  #settled = null; // step

  /**
   * @param {Document} document
   * @param {{play: () => void, changeSpeed: (direction: 1 | -1) => void, showTruth: () => void, figures: () => void,
   *   goTo: (index: number) => void, copyPath: () => void}} commands
   */
  constructor(document, { play, changeSpeed, showTruth, figures, goTo, copyPath }) {
    this.#document = document;
    for (const name of PARTS) this.#parts[name] = create(document, "span", { className: name });
    this.#parts.truth = button(document, "", "", showTruth, "truth");
    this.#parts.settled = button(document, "", "", () => goTo(this.#settled), "settled");
    this.#parts.files = button(document, "", "", copyPath, "files");
    this.#texts = create(document, "div", { className: "parts" }, ...Object.values(this.#parts));
    this.#texts.addEventListener("click", ({ target }) => target.closest("button") || figures());
    this.#play = button(document, "play", "", play, "play");
    this.#speed = button(document, "8/s", "", (event) => changeSpeed(event.shiftKey ? -1 : 1), "speed fading");
    this.element = create(document, "div", { className: "caption" }, this.#play, this.#texts, this.#speed);
  }

  /**
   * @param {Record<string, string>} texts of `caption`
   * @param {number | null} total number of steps, which reserves width for the largest step
   * @param {number | null} settled step at which the picture settled
   */
  setCaption(texts, total, settled) {
    this.#settled = settled;
    this.#parts.settled.title = this.#parts.settled.ariaLabel = texts.settled ? `The picture ${texts.settled}; click to go there` : "";
    for (const name of PARTS) this.#setText(name, texts[name] ?? "");
    this.#parts.files.title = this.#parts.files.ariaLabel = texts.files ? `${texts.files}; click to copy the path` : "";
    this.#parts.truth.title = this.#parts.truth.ariaLabel = texts.truth ? `${texts.truth}: show how the steps approach the last preview` : "";
    this.#parts.step.style.minWidth = texts.step ? `${String(total ?? "").length * 2 + 5.2}ch` : "";
    this.#texts.title = PARTS.map((name) => texts[name]).filter(Boolean).join("  ·  ");
  }

  /** Replaces a text that has changed: the browser lays out the page for each one. */
  #setText(name, text) {
    const part = this.#parts[name];
    if (part.textContent === text) return;
    const [, begin, middle, end] = SHORTENED[name]?.exec(text) ?? [];
    if (begin) part.replaceChildren(begin, create(this.#document, "span", { textContent: middle }), end);
    else part.textContent = text;
  }

  /** @param {{playing: boolean, playable: boolean, speed: number}} facts `speed` in steps per second */
  show({ playing, playable, speed }) {
    setButton(this.#document, this.#play, playing ? "pause" : "play", playing ? "Pause (Space)" : "Play the steps (Space)");
    this.#play.classList.toggle("playing", playing);
    this.#play.disabled = !playable;
    setButton(this.#document, this.#speed, `${speed}/s`, `${speed} steps per second; click for another speed`);
  }
}
