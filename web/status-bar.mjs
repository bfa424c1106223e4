/** The line below the strip: the caption, and the buttons that play. */

import { button, make, reface } from "./elements.mjs";

const PARTS = ["step", "sigma", "time", "maker", "rate", "size", "decode"]; // what matters least goes first

export class Line {
  #document;
  #parts = {};
  #texts;
  #play;
  #speed;

  /** @param {Document} document @param {{play: () => void, faster: (by: 1 | -1) => void}} does */
  constructor(document, does) {
    this.#document = document;
    for (const name of PARTS) this.#parts[name] = make(document, "span", { className: name });
    this.#texts = make(document, "div", { className: "parts" }, ...Object.values(this.#parts));
    this.#play = button(document, "play", "", does.play, "play");
    this.#speed = button(document, "8/s", "", (event) => does.faster(event.shiftKey ? -1 : 1), "speed fading");
    this.element = make(document, "div", { className: "caption" }, this.#play, this.#texts, this.#speed);
  }

  /**
   * @param {Record<string, string>} texts of `caption`
   * @param {number | null} total steps, for which there is room from the first one on
   */
  say(texts, total) {
    for (const name of PARTS) this.#parts[name].textContent = texts[name] ?? "";
    this.#parts.step.style.minWidth = texts.step ? `${String(total ?? "").length * 2 + 5.2}ch` : "";
    this.#texts.title = PARTS.map((name) => texts[name]).filter(Boolean).join("  ·  ");
  }

  /** @param {{playing: boolean, playable: boolean, speed: number}} facts */
  show({ playing, playable, speed }) {
    reface(this.#document, this.#play, playing ? "pause" : "play", playing ? "Pause (Space)" : "Play (Space)");
    this.#play.classList.toggle("playing", playing);
    this.#play.disabled = !playable;
    reface(this.#document, this.#speed, `${speed}/s`, `${speed} steps a second; click for another speed`);
  }
}
