/** The stage: one or two panes of pictures that are zoomed and panned together. */

import { density, make, onDrag, pointIn } from "./elements.mjs";
import { columns, FIT, oneToOne, panned, placed, wheelFactor, zoomedAt } from "./zoom.mjs";

const GAP = 0.014; // between the pictures of a batch, of their longer side
const CLICK_PX = 4;
const NEAR_PX = 14;
const KEY_STEP = 0.02;

/** One grid of pictures; a single picture is a grid of one. */
class Pane {
  #document;
  #cells = [];
  #shape = { width: 1, height: 1 };

  constructor(document) {
    this.#document = document;
    this.board = make(document, "div", { className: "board" });
    this.element = make(document, "div", { className: "pane" }, this.board);
  }

  get size() {
    return { width: this.element.clientWidth || 1, height: this.element.clientHeight || 1 };
  }

  /** Of the grid, in pixels of the final images. */
  get extent() {
    const { width, height } = this.#shape;
    const count = Math.max(1, this.#cells.length);
    const gap = GAP * Math.max(width, height);
    const across = columns(count, this.size, this.#shape);
    const down = Math.ceil(count / across);
    return { width: across * width + (across - 1) * gap, height: down * height + (down - 1) * gap, across, gap };
  }

  show(pictures, shape) {
    this.#shape = shape;
    while (this.#cells.length > pictures.length) this.#cells.pop().remove();
    while (this.#cells.length < pictures.length) {
      const cell = make(this.#document, "div", { className: "cell", data: { item: this.#cells.length } });
      this.#cells.push(cell);
      this.board.append(cell);
    }
    pictures.forEach((picture, i) => {
      if (!picture) this.#cells[i].replaceChildren(); // rather nothing than the picture of another step
      else if (this.#cells[i].firstChild !== picture) this.#cells[i].replaceChildren(picture);
    });
  }

  layout(zoom) {
    const { width, height, across, gap } = this.extent;
    const box = placed(zoom, this.size, { width, height });
    for (const [side, value] of Object.entries(box)) this.board.style[side] = `${value}px`;
    const percent = (of, whole) => `${(100 * of) / whole}%`;
    this.#cells.forEach((cell, i) => {
      const [column, row] = [i % across, Math.floor(i / across)];
      cell.style.width = percent(this.#shape.width, width);
      cell.style.height = percent(this.#shape.height, height);
      cell.style.left = percent(column * (this.#shape.width + gap), width);
      cell.style.top = percent(row * (this.#shape.height + gap), height);
    });
  }
}

export class Stage {
  #panes;
  #handle;
  #told;
  #zoom = FIT;
  #mode = "one";
  #wipe = 0.5;

  /**
   * @param {Document} document
   * @param {{pick: (item: number) => void, zoomed: () => void}} told `pick`: one of several pictures was clicked
   */
  constructor(document, told) {
    this.#told = told;
    this.#panes = [new Pane(document), new Pane(document)];
    this.#handle = make(document, "div", { className: "wipe", tabIndex: 0, role: "slider", ariaLabel: "Wipe" });
    const gain = make(document, "div", { className: "gain" }, ...this.#panes.map(({ element }) => element));
    this.element = make(document, "div", { className: "stage" }, gain, this.#handle);
    this.#listen();
    this.mode = "one";
  }

  /** How the second pane is shown. @param {"one" | "wipe" | "side" | "difference"} mode */
  set mode(mode) {
    this.#mode = mode;
    this.element.dataset.mode = mode;
    this.#handle.hidden = mode !== "wipe";
    this.layout();
  }

  set smooth(smooth) {
    this.element.classList.toggle("nearest", !smooth);
  }

  get zoomed() {
    return this.#zoom.scale !== 1;
  }

  /** @param {{pictures: (HTMLImageElement | null)[], shape: import("./zoom.mjs").Size}[]} contents of each pane */
  show(contents) {
    contents.forEach(({ pictures, shape }, i) => this.#panes[i].show(pictures, shape));
    this.layout();
  }

  fit() {
    this.#look(FIT);
  }

  /** A pixel of the final image on one of the screen; the second time, back. */
  toggleOneToOne() {
    const [pane] = this.#panes;
    this.#look(this.zoomed ? FIT : oneToOne(this.#zoom, pane.size, pane.extent, density(this.element)));
  }

  /** To be called when there is another size for it. */
  layout() {
    for (const pane of this.#panes) pane.layout(this.#zoom);
    this.element.style.setProperty("--wipe", `${this.#wipe * 100}%`);
    this.element.classList.toggle("zoomed", this.zoomed);
    this.#handle.ariaValueMin = "0";
    this.#handle.ariaValueMax = "100";
    this.#handle.ariaValueNow = String(Math.round(this.#wipe * 100));
  }

  #look(zoom) {
    this.#zoom = zoom;
    this.layout();
    this.#told.zoomed();
  }

  /** The pane under the pointer; of two that lie on each other, the first. */
  #under(event) {
    const second = this.#mode === "side" && pointIn(this.element, event).x > this.element.offsetWidth / 2;
    return this.#panes[second ? 1 : 0];
  }

  /** Zooms as the wheel says. */
  wheel(event) {
    const pane = this.#under(event);
    this.#look(zoomedAt(this.#zoom, pane.size, pane.extent, pointIn(pane.element, event), wheelFactor(event)));
  }

  #listen() {
    const { element } = this;
    let from, last, wiping, picked;
    onDrag(
      element,
      (event) => {
        if (event.target.closest(".over")) return false;
        from = last = pointIn(element, event);
        const near = Math.abs(from.x - this.#wipe * element.offsetWidth) < NEAR_PX;
        wiping = this.#mode === "wipe" && (near || !this.zoomed);
        picked = event.target.closest(".cell");
        element.classList.add("dragging");
      },
      (event) => {
        const at = pointIn(element, event);
        if (wiping) this.#wipeTo(at.x / element.offsetWidth);
        else if (this.zoomed) {
          const pane = this.#under(event);
          this.#look(panned(this.#zoom, pane.size, pane.extent, { x: at.x - last.x, y: at.y - last.y }));
        }
        last = at;
      },
      (event) => {
        element.classList.remove("dragging");
        const at = pointIn(element, event);
        const moved = Math.hypot(at.x - from.x, at.y - from.y) > CLICK_PX;
        if (!moved && wiping && event.type === "pointerup") this.#wipeTo(at.x / element.offsetWidth);
        else if (!moved && picked && picked.parentNode.childElementCount > 1) this.#told.pick(Number(picked.dataset.item));
      },
    );
    element.addEventListener("dblclick", (event) => event.target.closest(".over") || this.fit());
    this.#handle.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      this.#wipeTo(this.#wipe + by * KEY_STEP);
    });
  }

  #wipeTo(at) {
    this.#wipe = Math.min(Math.max(at, 0), 1);
    this.layout();
  }
}
