/** Moves the viewers with ComfyUI's canvas while the user moves it: the frontend would place and lay out each one for each frame. */

const STILL_MS = 200;

/** What a frame shows. @typedef {{graph: unknown, scale: number, x: number, y: number}} Drawn */

/**
 * A viewer that moves with the canvas.
 *
 * @typedef {object} Carried
 * @property {HTMLElement} frame element in which the frontend has put it
 * @property {() => boolean} isVisible method of the widget, which this one replaces
 * @property {string} shape place and size on the canvas, see `shapeOf`
 */

export class MovingCanvas {
  #widgets;
  /** @type {Drawn | null} */ #drawn = null; // by the last frame
  /** @type {Drawn | null} */ #start = null; // first frame of the move, for which the frontend places them last
  /** @type {Map<ComfyUI.DomWidget, Carried>} */ #carried = new Map();
  /** @type {number | undefined} */ #timer;
  #isStill = false;

  /** @param {() => ComfyUI.DomWidget[]} widgets returns the widgets of all viewers */
  constructor(widgets) {
    this.#widgets = widgets;
  }

  /** Follows a LiteGraph canvas. @param {ComfyUI.Canvas} canvas */
  follow(canvas) {
    const { onDrawForeground } = canvas;
    const look = () => this.#look(canvas);
    canvas.onDrawForeground = function (...args) {
      look(); // before the frontend places the widgets for the same frame
      return onDrawForeground?.apply(this, args);
    };
  }

  /** A zoom ends the move: a layer would keep the sharpness of the zoom at which it began. @param {ComfyUI.Canvas} canvas */
  #look(canvas) {
    const { graph, ds } = canvas;
    const [before, now] = [this.#drawn, { graph, scale: ds.scale, x: ds.offset[0], y: ds.offset[1] }];
    this.#drawn = now;
    if (before?.graph !== graph || before.scale !== now.scale) return this.#end();
    if (before.x !== now.x || before.y !== now.y) this.#move(now, canvas);
    else if (this.#isStill) return this.#end();
    this.#carry(now);
  }

  /** @param {Drawn} now @param {ComfyUI.Canvas} canvas */
  #move(now, canvas) {
    if (!this.#start) this.#begin(now);
    this.#isStill = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#isStill = true;
      canvas.setDirty(true); // the viewers get their places while a frame is drawn
    }, STILL_MS);
  }

  /** @param {Drawn} now */
  #begin(now) {
    this.#start = now;
    for (const widget of this.#widgets()) {
      const [frame, { isVisible }] = [widget.element.parentElement, widget];
      // Others come into view during the move. The frontend shows them.
      if (!isVisible || !frame?.matches(".dom-widget") || frame.style.display === "none") continue;
      this.#carried.set(widget, { frame, isVisible, shape: shapeOf(widget, isVisible) });
      widget.isVisible = () => false; // the frontend places a widget that becomes hidden once more, and then no more
      widget.element.toggleAttribute("data-moving", true);
    }
  }

  /** @param {Drawn} now */
  #carry({ scale, x, y }) {
    const { x: left = x, y: top = y } = this.#start ?? {};
    const translate = `${Math.round((x - left) * scale)}px ${Math.round((y - top) * scale)}px`;
    for (const [widget, { frame, isVisible, shape }] of this.#carried) {
      if (shapeOf(widget, isVisible) === shape) frame.style.translate = translate;
      else this.#release(widget);
    }
  }

  #end() {
    clearTimeout(this.#timer);
    this.#isStill = false;
    this.#start = null;
    for (const widget of this.#carried.keys()) this.#release(widget);
  }

  /** The frontend places it again, for this frame. @param {ComfyUI.DomWidget} widget */
  #release(widget) {
    const { frame, isVisible } = /** @type {Carried} */ (this.#carried.get(widget));
    this.#carried.delete(widget);
    widget.isVisible = isVisible;
    widget.element.toggleAttribute("data-moving", false);
    frame.style.translate = "";
  }
}

/**
 * Where a widget is in its graph. If this changes, the frontend must place it.
 *
 * @param {ComfyUI.DomWidget} widget @param {() => boolean} isVisible
 */
function shapeOf(widget, isVisible) {
  const { node, y, computedHeight } = widget;
  return [isVisible.call(widget), ...(node?.pos ?? []), ...(node?.size ?? []), y, computedHeight].join();
}
