/** Shows one or two grids of pictures that are zoomed and panned together. */

import { create, onDrag, pixelRatio, pointerPosition, targetOf } from "./elements.mjs";
import { t } from "./language.mjs";
import { columns, FIT, oneToOne, panned, pictureBox, wheelFactor, zoomedAt } from "./zoom.mjs";

const GAP = 0.014; // between the pictures of a batch, as a fraction of their longer side
const MAX_CLICK_PX = 4; // a longer move of the pointer is a drag
const WIPE_GRAB_PX = 14;
const WIPE_KEY_STEP = 0.02;
const NARROW_PX = 360; // below which two pictures are one above the other

/**
 * @typedef {import("./image-cache.mjs").Picture} Picture
 * @typedef {import("./zoom.mjs").Zoom} Zoom
 * @typedef {import("./zoom.mjs").Size} Size
 */

/** A grid of the pictures of one run; a single picture is a grid of one. */
class ImageGrid {
  #document;
  /** @type {HTMLElement[]} */ #cells = [];
  #pictureSize = { width: 1, height: 1 };
  #size = { width: 1, height: 1 };

  /** @param {Document} document */
  constructor(document) {
    this.#document = document;
    this.board = create(document, "div", { className: "board" });
    this.element = create(document, "div", { className: "pane" }, this.board);
  }

  get size() {
    return this.#size;
  }

  /** Reads the size of the element, which makes the browser lay out the page. */
  measure() {
    this.#size = { width: this.element.clientWidth || 1, height: this.element.clientHeight || 1 };
  }

  /** Size, columns and gap of the grid, in pixels of the final images. */
  get layout() {
    const { width, height } = this.#pictureSize;
    const count = Math.max(1, this.#cells.length);
    const gap = GAP * Math.max(width, height);
    const across = columns(count, this.size, this.#pictureSize);
    const down = Math.ceil(count / across);
    return { width: across * width + (across - 1) * gap, height: down * height + (down - 1) * gap, across, gap };
  }

  /** @param {(Picture | null)[]} images @param {Size} size of each */
  show(images, size) {
    this.#pictureSize = size;
    while (this.#cells.length > images.length) this.#cells.pop()?.remove();
    while (this.#cells.length < images.length) {
      const cell = create(this.#document, "div", { className: "cell", data: { item: this.#cells.length } });
      this.#cells.push(cell);
      this.board.append(cell);
    }
    images.forEach((image, i) => {
      if (!image) this.#cells[i].replaceChildren(); // else the picture of another step would stay
      else if (this.#cells[i].firstChild !== image) this.#cells[i].replaceChildren(image);
    });
  }

  /** The edges of the visible part of the pictures, in pixels of the pane. @param {Zoom} zoom */
  edges(zoom) {
    const { left, width } = pictureBox(zoom, this.size, this.layout);
    return [Math.max(0, left), Math.min(this.size.width, left + width)];
  }

  /** @param {Zoom} zoom @param {boolean} draggable whether its pictures can be dragged away */
  place(zoom, draggable) {
    const { width, height, across, gap } = this.layout;
    const box = pictureBox(zoom, this.size, { width, height });
    for (const [side, value] of Object.entries(box)) this.board.style.setProperty(side, `${value}px`);
    /** @param {number} part @param {number} whole */
    const percent = (part, whole) => `${(100 * part) / whole}%`;
    this.#cells.forEach((cell, i) => {
      const [column, row] = [i % across, Math.floor(i / across)];
      cell.draggable = draggable;
      cell.style.width = percent(this.#pictureSize.width, width);
      cell.style.height = percent(this.#pictureSize.height, height);
      cell.style.left = percent(column * (this.#pictureSize.width + gap), width);
      cell.style.top = percent(row * (this.#pictureSize.height + gap), height);
    });
  }
}

/** @typedef {"one" | import("./types.mjs").View["compare"]} Mode */

export class ImagePane {
  #grids;
  #handle;
  #callbacks;
  #drag;
  #zoom = FIT;
  /** @type {Mode | undefined} */ #mode;
  #wipe = 0.5;

  /**
   * @param {Document} document
   * @param {{pick: (item: number, other: boolean) => void, zoomed: () => void}} callbacks `pick`: the user clicked one of
   *   several pictures; `other`: with Shift
   * @param {(event: DragEvent, at: number) => void} drag gets the place of a picture that the user drags away; only while
   *   it fits, because a drag moves a zoomed one
   */
  constructor(document, callbacks, drag) {
    this.#callbacks = callbacks;
    this.#drag = drag;
    this.#grids = [new ImageGrid(document), new ImageGrid(document)];
    this.#handle = create(document, "div", { className: "wipe", tabIndex: 0, role: "slider", ariaLabel: t("Wipe") });
    const gain = create(document, "div", { className: "gain" }, ...this.#grids.map(({ element }) => element));
    this.element = create(document, "div", { className: "stage" }, gain, this.#handle);
    this.#listen();
    this.mode = "one";
  }

  /** How the second grid is shown. @param {Mode} mode */
  set mode(mode) {
    if (mode === this.#mode) return;
    this.#mode = mode;
    this.element.dataset.mode = mode;
    this.#handle.hidden = mode !== "wipe";
    this.layout();
  }

  /** @param {boolean} smooth */
  set smooth(smooth) {
    this.element.classList.toggle("nearest", !smooth);
  }

  get zoomed() {
    return this.#zoom.scale !== 1;
  }

  /** @param {{images: (Picture | null)[], size: Size}[]} contents of each grid */
  show(contents) {
    contents.forEach(({ images, size }, i) => this.#grids[i].show(images, size));
    this.#place();
  }

  fit() {
    this.#setZoom(FIT);
  }

  /** Zooms to one screen pixel per pixel of the final image; if already zoomed, back to fit. */
  toggleOneToOne() {
    const [grid] = this.#grids;
    this.#setZoom(this.zoomed ? FIT : oneToOne(this.#zoom, grid.size, grid.layout, pixelRatio(this.element)));
  }

  get #stacked() {
    return this.#mode === "side" && this.element.clientWidth < NARROW_PX;
  }

  /** Measures and places all parts; to be called when the size of the element has changed. */
  layout() {
    this.element.classList.toggle("stacked", this.#stacked); // first, because it changes the sizes
    for (const grid of this.#grids) grid.measure();
    this.#place();
  }

  #place() {
    for (const grid of this.#grids) grid.place(this.#zoom, this.#mode === "one" && !this.zoomed);
    this.element.style.setProperty("--wipe", `${this.#wipeAt}px`);
    this.element.classList.toggle("zoomed", this.zoomed);
    this.#handle.ariaValueMin = "0";
    this.#handle.ariaValueMax = "100";
    this.#handle.ariaValueNow = String(Math.round(this.#wipe * 100));
  }

  /** The edges of what the wipe runs over: the pictures, not the empty ground beside them. */
  get #wipeEdges() {
    const edges = this.#grids.map((grid) => grid.edges(this.#zoom));
    return [Math.min(...edges.map(([left]) => left)), Math.max(...edges.map(([, right]) => right))];
  }

  get #wipeAt() {
    const [left, right] = this.#wipeEdges;
    return left + this.#wipe * (right - left);
  }

  /** @param {Zoom} zoom */
  #setZoom(zoom) {
    this.#zoom = zoom;
    this.#place();
    this.#callbacks.zoomed();
  }

  /** The grid under the pointer; the first if one covers the other. @param {MouseEvent} event */
  #gridAt(event) {
    const { x, y } = pointerPosition(this.element, event);
    const { offsetWidth, offsetHeight } = this.element;
    const second = this.#mode === "side" && (this.#stacked ? y > offsetHeight / 2 : x > offsetWidth / 2);
    return this.#grids[second ? 1 : 0];
  }

  /** Zooms at the pointer. @param {WheelEvent} event @returns {true} */
  wheel(event) {
    const grid = this.#gridAt(event);
    this.#setZoom(zoomedAt(this.#zoom, grid.size, grid.layout, pointerPosition(grid.element, event), wheelFactor(event)));
    return true;
  }

  #listen() {
    const { element } = this;
    let [from, last, wiping] = [{ x: 0, y: 0 }, { x: 0, y: 0 }, false];
    /** @type {HTMLElement | null} */
    let pressedCell = null;
    onDrag(
      element,
      (event) => {
        if (targetOf(event).closest(".over")) return false;
        from = last = pointerPosition(element, event);
        const onWipe = Math.abs(from.x - this.#wipeAt) < WIPE_GRAB_PX;
        wiping = this.#mode === "wipe" && (onWipe || !this.zoomed);
        pressedCell = targetOf(event).closest(".cell");
        element.classList.add("dragging");
      },
      (event) => {
        const at = pointerPosition(element, event);
        if (wiping) this.#dragWipe(at);
        else if (this.zoomed) {
          const grid = this.#gridAt(event);
          this.#setZoom(panned(this.#zoom, grid.size, grid.layout, { x: at.x - last.x, y: at.y - last.y }));
        }
        last = at;
      },
      (event) => {
        element.classList.remove("dragging");
        const at = pointerPosition(element, event);
        const moved = Math.hypot(at.x - from.x, at.y - from.y) > MAX_CLICK_PX;
        if (!moved && wiping && event.type === "pointerup") this.#dragWipe(at);
        else if (!moved && event.type === "pointerup" && pressedCell && (pressedCell.parentElement?.childElementCount ?? 0) > 1) this.#callbacks.pick(Number(pressedCell.dataset.item), event.shiftKey);
      },
    );
    element.addEventListener("dragstart", (event) => this.#drag(event, Number(targetOf(event).dataset.item)));
    element.addEventListener("dblclick", (event) => targetOf(event).closest(".over") || this.fit());
    this.#handle.addEventListener("keydown", (event) => {
      const direction = Number(event.key === "ArrowRight") - Number(event.key === "ArrowLeft");
      if (!direction) return;
      event.preventDefault();
      event.stopPropagation();
      this.#wipeTo(this.#wipe + direction * WIPE_KEY_STEP);
    });
  }

  /** @param {{x: number}} at position of the pointer */
  #dragWipe({ x }) {
    const [left, right] = this.#wipeEdges;
    this.#wipeTo((x - left) / Math.max(1, right - left));
  }

  /** @param {number} at 0 is the left edge of the pictures, 1 the right one */
  #wipeTo(at) {
    this.#wipe = Math.min(Math.max(at, 0), 1);
    this.#place();
  }
}
