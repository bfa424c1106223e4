/** Shows the frames of a video as a bar: the current frame, and a button that plays or pauses. */

import { button, create, onDrag, pointerPosition, setButton } from "./elements.mjs";
import { decimal, plural, t } from "./language.mjs";

export class FrameBar {
  #document;
  #play;
  #rail;
  #count;
  #fps;
  #startedAt = 0;

  /**
   * @param {Document} document
   * @param {object} commands
   * @param {() => void} commands.toggleFrames plays or pauses
   * @param {(fraction: number) => void} commands.seekFrame pauses at a frame; 0 is the first, 1 the end
   * @param {(count: number) => void} commands.moveFrames pauses `count` frames further
   */
  constructor(document, { toggleFrames, seekFrame, moveFrames }) {
    this.#document = document;
    this.#play = button(document, "pauseFrames", "", toggleFrames);
    this.#rail = create(document, "div", { className: "rail", tabIndex: 0, role: "slider", ariaLabel: t("Frame") });
    this.#count = create(document, "span", { className: "frame" });
    this.#fps = create(document, "span", { className: "fps" });
    this.element = create(document, "div", { className: "frames" }, this.#play, this.#rail, this.#count, this.#fps);
    /** @param {PointerEvent} event */
    const seek = (event) => seekFrame(pointerPosition(this.#rail, event).x / this.#rail.offsetWidth);
    onDrag(this.#rail, seek, seek);
    this.#rail.addEventListener("keydown", (event) => {
      const count = Number(event.key === "ArrowRight") - Number(event.key === "ArrowLeft");
      if (!count) return;
      event.preventDefault();
      event.stopPropagation();
      moveFrames(count);
    });
  }

  /**
   * @param {import("./selection.mjs").Layout} layout
   * @param {object} facts
   * @param {number} facts.total frames in the pictures, whether or not they can be shown one by one
   * @param {number} facts.at the shown frame
   * @param {boolean} facts.playing
   * @param {number | null} facts.fps frames per second; null if unknown
   */
  show({ frames, animated, decodable }, { total, at, playing, fps }) {
    const whole = animated && !decodable; // the browser plays it, and cannot pause it
    this.element.hidden = frames < 2 && !animated;
    this.element.classList.toggle("whole", whole);
    this.element.style.setProperty("--frame", String(animated || frames < 2 ? 1 : at / (frames - 1)));
    this.#count.textContent = animated ? plural(total, "{count} frame", "{count} frames") : `${at + 1} / ${frames}`;
    this.#fps.textContent = fps ? t("{count} fps", { count: decimal(fps, 1, 0) }) : "";
    this.#play.hidden = whole;
    setButton(this.#document, this.#play, playing ? "pauseFrames" : "playFrames", playing ? t("Pause the video at this frame") : t("Play the video"));
    this.#rail.tabIndex = whole ? -1 : 0;
    Object.assign(this.#rail, { ariaValueMin: "1", ariaValueMax: String(frames), ariaValueNow: String(at + 1) });
  }

  /** Notes that other pictures are on the screen; animated ones start to play now. */
  restart() {
    this.#startedAt = Date.now();
  }

  /**
   * The frame that an animated picture shows now. Browsers do not report it, so it is computed from the elapsed time.
   *
   * @param {number} fps @param {number} total
   */
  estimateFrame(fps, total) {
    return Math.floor(((Date.now() - this.#startedAt) / 1000) * fps) % total;
  }
}
