/** Shows a small picture for each step of a run in a row, in the full window. */

import { create, targetOf } from "./elements.mjs";
import { t } from "./language.mjs";

const HEIGHT_PX = 56; // of a picture
const [MIN_WIDTH_PX, MAX_WIDTH_PX] = [32, 112];
const GAP_PX = 4;
const BESIDE = 3; // pictures that are created on each side of the visible ones
const MAX_LOADING = 4; // a saved run's pictures are as large as its files
const MAX_PICTURES = 300; // small ones in memory
const LINE_PX = 40; // of a wheel that counts lines

/**
 * The part of a row that is in view: the first and the last place.
 *
 * @param {number} scrolled @param {number} width @param {number} pitch @param {number} count
 * @returns {[number, number]}
 */
export function visiblePlaces(scrolled, width, pitch, count) {
  return [Math.max(0, Math.floor(scrolled / pitch) - BESIDE), Math.min(count - 1, Math.ceil((scrolled + width) / pitch) + BESIDE)];
}

/** @typedef {import("./types.mjs").ManifestStep} ManifestStep */

/**
 * @typedef {object} FilmFacts
 * @property {string} key of the run
 * @property {ManifestStep[]} steps those with a picture; fewer than two hide the strip
 * @property {number | null} at index of the selected step
 * @property {number | null} other index of the step that it is compared with
 * @property {{width: number, height: number}} size of the final image
 * @property {(step: ManifestStep) => string} address of a step's picture
 */

/** Creates only the pictures in view, so that a run of thousands of steps is as quick as a short one. */
export class FilmStrip {
  #document;
  #load;
  #reel;
  /** @type {Map<string, HTMLElement>} */ #cells = new Map(); // by address
  /** @type {Map<string, HTMLCanvasElement | null>} */ #pictures = new Map(); // small ones by address, the most recently used last; null: failed to load
  /** @type {Set<string>} */ #loading = new Set(); // addresses
  /** @type {FilmFacts} */ #facts = { key: "", steps: [], at: null, other: null, size: { width: 1, height: 1 }, address: () => "" };
  #scrolledTo = "";

  /**
   * @param {Document} document
   * @param {(address: string) => Promise<HTMLImageElement>} load loads a picture without caching it
   * @param {{goTo: (index: number) => void, compareStep: (index: number) => void}} commands
   */
  constructor(document, load, { goTo, compareStep }) {
    this.#document = document;
    this.#load = load;
    this.#reel = create(document, "div", { className: "reel", role: "presentation" });
    this.element = create(document, "div", { className: "film", tabIndex: 0, role: "listbox", ariaLabel: t("All steps"), ariaOrientation: "horizontal", hidden: true }, this.#reel);
    this.element.addEventListener("scroll", () => this.layout());
    this.element.addEventListener("click", (event) => {
      const index = /** @type {HTMLElement | null} */ (targetOf(event).closest("[data-step]"))?.dataset.step;
      if (index) (event.shiftKey ? compareStep : goTo)(Number(index));
    });
  }

  /** @param {FilmFacts} facts */
  show(facts) {
    this.#facts = facts;
    this.element.hidden = facts.steps.length < 2;
    if (this.element.hidden) return;
    this.#reel.style.width = `${facts.steps.length * this.#pitch - GAP_PX}px`;
    this.#scrollTo(`${facts.key} ${facts.at}`);
    this.layout();
  }

  /** Creates the pictures in view; to be called when the width has changed. */
  layout() {
    if (this.element.hidden) return;
    const { steps, at, other, address } = this.#facts;
    const { scrollLeft, clientWidth } = this.element;
    const [first, last] = visiblePlaces(scrollLeft, clientWidth, this.#pitch, steps.length);
    /** @type {Map<string, HTMLElement>} */
    const shown = new Map();
    for (let place = first; place <= last; place++) {
      const cell = this.#cell(address(steps[place]));
      shown.set(address(steps[place]), cell);
      const { index } = steps[place];
      Object.assign(cell.dataset, { step: index, mark: index === other ? "B" : index === at && other !== null ? "A" : "" });
      Object.assign(cell, { id: `film-${index}`, ariaSelected: String(index === at), ariaLabel: t("Step {step}", { step: index }) });
      cell.style.left = `${place * this.#pitch}px`;
      cell.style.width = `${this.#width}px`;
      if (!cell.parentNode) this.#reel.append(cell);
      if (cell.lastChild && cell.lastChild.textContent !== String(index)) cell.lastChild.textContent = String(index);
    }
    for (const [key, cell] of this.#cells) if (!shown.has(key)) cell.remove();
    this.#cells = shown;
    const active = [...shown.values()].find(({ ariaSelected }) => ariaSelected === "true");
    if (active) this.element.setAttribute("aria-activedescendant", active.id);
    else this.element.removeAttribute("aria-activedescendant");
    this.#loadNext();
  }

  /** Scrolls with a wheel in any direction. @param {WheelEvent} event @returns {boolean} whether there is something to scroll */
  wheel({ deltaX, deltaY, deltaMode }) {
    if (this.element.scrollWidth <= this.element.clientWidth) return false;
    const by = Math.abs(deltaX) > Math.abs(deltaY) ? deltaX : deltaY;
    this.element.scrollLeft += deltaMode === 0 ? by : by * LINE_PX;
    return true;
  }

  get #width() {
    const { width, height } = this.#facts.size;
    return Math.round(Math.min(Math.max((HEIGHT_PX * width) / height, MIN_WIDTH_PX), MAX_WIDTH_PX));
  }

  get #pitch() {
    return this.#width + GAP_PX;
  }

  /** Scrolls the selected step into view, once for each selection: the user may look elsewhere. @param {string} selection */
  #scrollTo(selection) {
    if (selection === this.#scrolledTo) return;
    this.#scrolledTo = selection;
    const { steps, at } = this.#facts;
    const left = steps.findIndex(({ index }) => index === at) * this.#pitch;
    const { scrollLeft, clientWidth } = this.element;
    const isInView = left >= scrollLeft && left + this.#width <= scrollLeft + clientWidth;
    if (left >= 0 && !isInView) this.element.scrollLeft = left - (clientWidth - this.#width) / 2;
  }

  /** @param {string} address */
  #cell(address) {
    const known = this.#cells.get(address);
    if (known) return known;
    const cell = create(this.#document, "div", { className: "frame-of-film", role: "option" }, create(this.#document, "span"));
    const picture = this.#pictures.get(address);
    if (picture) cell.prepend(picture);
    return cell;
  }

  /** Loads the pictures in view, some at a time: what has left the view meanwhile is not loaded. */
  #loadNext() {
    for (const address of this.#cells.keys()) {
      if (this.#loading.size >= MAX_LOADING) return;
      if (this.#pictures.has(address) || this.#loading.has(address)) continue;
      this.#loading.add(address);
      this.#load(address)
        .then((image) => this.#reduced(image), () => null)
        .then((picture) => {
          this.#loading.delete(address);
          this.#store(address, picture);
          this.#loadNext();
        });
    }
  }

  /** @param {string} address @param {HTMLCanvasElement | null} picture */
  #store(address, picture) {
    this.#pictures.set(address, picture);
    if (picture) this.#cells.get(address)?.prepend(picture);
    for (const old of this.#pictures.keys()) {
      if (this.#pictures.size <= MAX_PICTURES) break;
      if (!this.#cells.has(old)) this.#pictures.delete(old);
    }
  }

  /** A picture at twice the size of its place: its file may have millions of pixels. @param {HTMLImageElement} image */
  #reduced(image) {
    const scale = Math.min(1, (2 * HEIGHT_PX) / image.naturalHeight);
    const [width, height] = [image.naturalWidth, image.naturalHeight].map((side) => Math.max(1, Math.round(side * scale)));
    const canvas = create(this.#document, "canvas", { width, height });
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    return canvas;
  }
}
