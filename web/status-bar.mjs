/** Shows the caption below the strip, with the buttons for playback. */

import { button, create, setButton } from "./elements.mjs";

const PARTS = ["step", "fault", "sigma", "time", "decoder", "truth", "rate", "size", "decode"]; // if space is short, the last ones are hidden

export class StatusBar {
  #document;
  #parts = {};
  #texts;
  #play;
  #speed;

  /** @param {Document} document @param {{play: () => void, changeSpeed: (direction: 1 | -1) => void, showTruth: () => void}} commands */
  constructor(document, { play, changeSpeed, showTruth }) {
    this.#document = document;
    for (const name of PARTS) this.#parts[name] = create(document, "span", { className: name });
    this.#parts.truth = button(document, "", "", showTruth, "truth");
    this.#texts = create(document, "div", { className: "parts" }, ...Object.values(this.#parts));
    this.#play = button(document, "play", "", play, "play");
    this.#speed = button(document, "8/s", "", (event) => changeSpeed(event.shiftKey ? -1 : 1), "speed fading");
    this.element = create(document, "div", { className: "caption" }, this.#play, this.#texts, this.#speed);
  }

  /**
   * @param {Record<string, string>} texts of `caption`
   * @param {number | null} total number of steps, which reserves width for the largest step
   */
  setCaption(texts, total) {
    for (const name of PARTS) this.#parts[name].textContent = texts[name] ?? "";
    this.#parts.truth.title = this.#parts.truth.ariaLabel = texts.truth ? `${texts.truth}: show how the steps approach the last preview` : "";
    this.#parts.step.style.minWidth = texts.step ? `${String(total ?? "").length * 2 + 5.2}ch` : "";
    this.#texts.title = PARTS.map((name) => texts[name]).filter(Boolean).join("  ·  ");
  }

  /** @param {{playing: boolean, playable: boolean, speed: number}} facts `speed` in steps per second */
  show({ playing, playable, speed }) {
    setButton(this.#document, this.#play, playing ? "pause" : "play", playing ? "Pause (Space)" : "Play the steps (Space)");
    this.#play.classList.toggle("playing", playing);
    this.#play.disabled = !playable;
    setButton(this.#document, this.#speed, `${speed}/s`, `${speed} steps per second; click for another speed`);
  }
}
