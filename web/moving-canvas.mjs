/** Marks the viewers while the user moves ComfyUI's canvas, so that the page can give each a layer of its own. */

const STILL_MS = 200;

export class MovingCanvas {
  #isMoving = false;
  /** @type {{scale: number, x: number, y: number} | null} */ #at = null;
  /** @type {number | undefined} */ #timer;
  #show;

  /** @param {(isMoving: boolean) => void} show shows it on all viewers */
  constructor(show) {
    this.#show = show;
  }

  get isMoving() {
    return this.#isMoving;
  }

  /** Follows a LiteGraph canvas, which draws each position. @param {ComfyUI.Canvas} canvas */
  follow(canvas) {
    const { onDrawForeground } = canvas;
    const look = () => this.#look(canvas.ds);
    canvas.onDrawForeground = function (...args) {
      look();
      return onDrawForeground?.apply(this, args);
    };
  }

  /** A zoom is no move: a layer would keep the sharpness of the zoom at which it began. @param {ComfyUI.Viewport} viewport */
  #look({ scale, offset: [x, y] }) {
    const before = this.#at;
    if (before && before.scale === scale && before.x === x && before.y === y) return;
    this.#at = { scale, x, y };
    if (before?.scale !== scale) return this.#set(false);
    this.#set(true);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#set(false), STILL_MS);
  }

  /** @param {boolean} isMoving */
  #set(isMoving) {
    if (isMoving === this.#isMoving) return;
    this.#isMoving = isMoving;
    this.#show(isMoving);
  }
}
