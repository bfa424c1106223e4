/** Reduces viewers to the picture and a progress line while the canvas is zoomed out so far that nothing else is legible. */

const FAR_PERCENT = 40;

export class FarView {
  #isFar = false;
  #show;

  /** @param {(isFar: boolean) => void} show shows it on all viewers */
  constructor(show) {
    this.#show = show;
  }

  get isFar() {
    return this.#isFar;
  }

  /** Follows the zoom of a LiteGraph canvas. @param {ComfyUI.Viewport} ds its `DragAndScale` */
  follow(ds) {
    const { onChanged } = ds;
    ds.onChanged = (...args) => {
      onChanged?.apply(ds, args);
      this.#update(ds.scale);
    };
    this.#update(ds.scale);
  }

  /** @param {number} scale */
  #update(scale) {
    const isFar = Math.round(100 * scale) <= FAR_PERCENT;
    if (isFar === this.#isFar) return;
    this.#isFar = isFar;
    this.#show(isFar);
  }
}
