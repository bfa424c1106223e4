/** The bar of a video's frames: which one is shown, whether it plays. */

import { button, make, onDrag, pointIn, reface } from "./elements.mjs";

export class Film {
  #document;
  #roll;
  #rail;
  #count;
  #shownAt = 0;

  /**
   * @param {Document} document
   * @param {{toggle: () => void, seek: (across: number) => void, by: (count: number) => void}} told `seek`: to the frame
   *   there, of the whole from 0 to 1; `by`: so many on; both to stay there
   */
  constructor(document, told) {
    this.#document = document;
    this.#roll = button(document, "pause", "", told.toggle, "roll");
    this.#rail = make(document, "div", { className: "rail", tabIndex: 0, role: "slider", ariaLabel: "Frame" });
    this.#count = make(document, "span", { className: "frame" });
    this.element = make(document, "div", { className: "frames" }, this.#roll, this.#rail, this.#count);
    const seek = (event) => told.seek(pointIn(this.#rail, event).x / this.#rail.offsetWidth);
    onDrag(this.#rail, seek, seek);
    this.#rail.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      told.by(by);
    });
  }

  /**
   * @param {import("./selection.mjs").Extent} extent
   * @param {object} facts
   * @param {number} facts.all frames that the pictures have, whether they can be shown one by one or not
   * @param {number} facts.at the frame that is shown
   * @param {boolean} facts.rolling
   */
  show({ frames, animated, apart }, { all, at, rolling }) {
    const whole = animated && !apart; // it plays, and nothing can be done about it
    this.element.hidden = frames < 2 && !animated;
    this.element.classList.toggle("whole", whole);
    this.element.style.setProperty("--frame", animated || frames < 2 ? 1 : at / (frames - 1));
    this.#count.textContent = animated ? `${all} frames` : `${at + 1} / ${frames}`;
    this.#roll.hidden = whole;
    reface(this.#document, this.#roll, rolling ? "pause" : "play", rolling ? "Hold this frame" : "Play the frames");
    this.#rail.tabIndex = whole ? -1 : 0;
    Object.assign(this.#rail, { ariaValueMin: "1", ariaValueMax: String(frames), ariaValueNow: String(at + 1) });
  }

  /** Other pictures have just been put up: if they are animated, they begin now. */
  began() {
    this.#shownAt = Date.now();
  }

  /** No browser tells which frame of an animated picture it shows; it has been playing since it was put up. */
  guess(fps, all) {
    return Math.floor(((Date.now() - this.#shownAt) / 1000) * fps) % all;
  }
}
