/** Shows the runs as a row of thumbnails, newest first. */

import { runLabel } from "./caption.mjs";
import { button, create, setButton, targetOf, windowOf } from "./elements.mjs";
import { t } from "./language.mjs";
import { isSilent, newestStep } from "./manifest.mjs";

const MAX_THUMBNAILS = 500;
const FADE_PX = 24; // at both edges of the row, where the arrows are
const PAGE = 0.75; // part of the visible row by which an arrow scrolls
const LINE_PX = 40; // of a wheel that counts lines
const STILL_PX = 80; // shorter side of a thumbnail's picture
const LOADED_PX = 400; // beside the visible part of the row: a saved run's pictures are as large as its files

/** @typedef {import("./types.mjs").Run} Run @typedef {import("./types.mjs").ManifestStep} ManifestStep */

/** @typedef {{element: HTMLButtonElement, address: string | null, isNear: boolean, loaded: string | null}} Thumbnail */

export class RunList {
  #document;
  #list;
  #arrows;
  #compare;
  #load;
  #address;
  /** @type {Map<string, Thumbnail>} */ #thumbnails = new Map(); // by id of the run
  #near; // observes which thumbnails are near the visible part of the row
  /** @type {string | null} */ #scrolledTo = null;

  /**
   * @param {Document} document
   * @param {(address: string) => Promise<HTMLImageElement>} load
   * @param {(id: string, file: string, at: number | null) => string} address
   * @param {{choose: (id: string, other: boolean) => void, compare: () => void}} commands
   */
  constructor(document, load, address, { choose, compare }) {
    this.#document = document;
    this.#load = load;
    this.#address = address;
    this.#list = create(document, "div", { className: "thumbs", role: "group", ariaLabel: t("Runs, newest first") });
    this.#list.addEventListener("click", (event) => {
      const id = targetOf(event).closest("button")?.dataset.run;
      if (id) choose(id, event.shiftKey || event.ctrlKey || event.metaKey);
    });
    const { IntersectionObserver } = windowOf(document);
    const options = { root: this.#list, rootMargin: `0px ${LOADED_PX}px` };
    this.#near = new IntersectionObserver((entries) => entries.forEach((entry) => this.#comeNear(entry)), options);
    this.#compare = button(document, "compare", t("Compare two runs (C)"), compare, "compare");
    /** @param {1 | -1} direction */
    const scroll = (direction) => (this.#list.scrollLeft += direction * PAGE * this.#list.clientWidth);
    /** @param {string} name @param {string} label @param {1 | -1} direction */
    const arrow = (name, label, direction) => {
      const created = button(document, name, label, () => scroll(direction), `arrow ${name}`);
      created.tabIndex = -1; // the Tab key reaches every thumbnail, which scrolls the row
      return created;
    };
    this.#arrows = { newer: arrow("newer", t("Newer runs"), -1), older: arrow("older", t("Older runs"), 1) };
    this.#list.addEventListener("scroll", () => this.layout());
    const row = create(document, "div", { className: "row" }, this.#list, ...Object.values(this.#arrows));
    this.element = create(document, "div", { className: "runs" }, row, this.#compare);
  }

  /**
   * @param {Run[]} runs newest first
   * @param {string | null} selected
   * @param {string | null} other the run that it is compared with
   * @param {boolean} atEnd whether the newest step of the selected run is on the screen, so that `showStep` gets it
   */
  show(runs, selected, other, atEnd) {
    const shown = runs.slice(0, MAX_THUMBNAILS);
    const ids = new Set(shown.map(({ id }) => id));
    let hasMoved = false;
    for (const [id, { element }] of this.#thumbnails) {
      if (ids.has(id)) continue;
      hasMoved = true;
      this.#near.unobserve(element);
      element.remove();
      this.#thumbnails.delete(id);
    }
    /** @type {HTMLElement | null} */
    let before = null;
    for (const [i, run] of shown.entries()) {
      const thumbnail = this.#thumbnail(run.id);
      const { element } = thumbnail;
      if (element.previousSibling !== before || !element.parentNode) {
        this.#list.insertBefore(element, before ? before.nextSibling : this.#list.firstChild);
        hasMoved = true;
      }
      before = element;
      const silent = isSilent(run, Date.now());
      element.className = `thumb ${silent ? "silent" : run.state}${run.gone ? " gone" : ""}`;
      element.dataset.mark = other === null ? "" : run.id === selected ? "A" : run.id === other ? "B" : "";
      element.dataset.key = i < 9 ? String(i + 1) : "";
      element.ariaPressed = String(run.id === selected || run.id === other);
      element.title = runLabel(run);
      element.ariaLabel = t("Run {number}: {facts}", { number: i + 1, facts: element.title });
      element.style.setProperty("--done", String(run.state === "running" && !silent ? Math.min(1, (run.index ?? 0) / (run.total || Infinity)) : 0));
      const isPainted = run.state === "running" && run.id === selected && atEnd;
      if (!isPainted || !thumbnail.address) this.#setPicture(thumbnail, run, newestPicture(run));
    }
    this.#scrollTo(other ?? selected);
    if (hasMoved) this.layout();
    this.#compare.disabled = runs.length < 2 && other === null;
    this.#compare.ariaPressed = String(other !== null);
    setButton(this.#document, this.#compare, "compare", other === null ? t("Compare two runs (C)") : t("End the comparison (C)"));
  }

  /**
   * Updates the thumbnail of a running run with its newest picture, which the browser has just shown and cached.
   *
   * @param {Run} run @param {ManifestStep} step
   */
  showStep(run, step) {
    const thumbnail = this.#thumbnails.get(run.id);
    if (thumbnail && run.state === "running") this.#setPicture(thumbnail, run, { file: step.files[0], at: step.at });
  }

  /** Scrolls the row with a wheel in any direction; false if all runs are visible. @param {WheelEvent} event */
  wheel({ deltaX, deltaY, deltaMode }) {
    const { scrollWidth, clientWidth } = this.#list;
    if (scrollWidth <= clientWidth) return false;
    const by = Math.abs(deltaX) > Math.abs(deltaY) ? deltaX : deltaY; // with Shift, a browser reports a sideways turn
    this.#list.scrollLeft += deltaMode === 0 ? by : by * LINE_PX;
    return true;
  }

  /** Shows an arrow at each end behind which there are more runs; to be called when the width has changed. */
  layout() {
    const { scrollLeft, scrollWidth, clientWidth } = this.#list;
    this.#arrows.newer.hidden = scrollLeft < 1;
    this.#arrows.older.hidden = scrollLeft + clientWidth > scrollWidth - 1;
  }

  /** Not `scrollIntoView`, which also scrolls the page around the viewer. @param {string | null} id */
  #scrollTo(id) {
    if (id === this.#scrolledTo) return;
    this.#scrolledTo = id;
    const element = this.#thumbnails.get(id ?? "")?.element;
    if (!element) return;
    const { offsetLeft, offsetWidth } = element;
    const { scrollLeft, clientWidth } = this.#list;
    if (offsetLeft < scrollLeft + FADE_PX) this.#list.scrollLeft = offsetLeft - FADE_PX;
    if (offsetLeft + offsetWidth > scrollLeft + clientWidth - FADE_PX) this.#list.scrollLeft = offsetLeft + offsetWidth - clientWidth + FADE_PX;
  }

  /** @param {string} id @returns {Thumbnail} */
  #thumbnail(id) {
    const known = this.#thumbnails.get(id);
    if (known) return known;
    const element = create(this.#document, "button", { type: "button", data: { run: id } });
    const created = { element, address: null, isNear: false, loaded: null };
    this.#thumbnails.set(id, created);
    this.#near.observe(element);
    return created;
  }

  /** @param {IntersectionObserverEntry} entry */
  #comeNear({ target, isIntersecting }) {
    const thumbnail = this.#thumbnails.get(/** @type {HTMLElement} */ (target).dataset.run ?? "");
    if (!thumbnail) return;
    thumbnail.isNear = isIntersecting;
    this.#loadPicture(thumbnail);
  }

  /** @param {Thumbnail} thumbnail @param {Run} run @param {Run["thumbnail"]} picture */
  #setPicture(thumbnail, run, picture) {
    if (!picture || run.gone) return;
    thumbnail.address = this.#address(run.id, picture.file, picture.at);
    this.#loadPicture(thumbnail);
  }

  /** @param {Thumbnail} thumbnail */
  async #loadPicture(thumbnail) {
    const { address } = thumbnail;
    if (!thumbnail.isNear || address === null || address === thumbnail.loaded) return;
    thumbnail.loaded = address;
    const image = await this.#load(address).catch(() => null);
    if (!image || thumbnail.address !== address) return;
    image.alt = "";
    const { matches: reducesMotion } = windowOf(this.#document).matchMedia?.("(prefers-reduced-motion: reduce)") ?? {};
    thumbnail.element.replaceChildren(reducesMotion ? still(image, this.#document) : image);
  }
}

/**
 * The first frame of a picture that may be animated, at most twice as large as a thumbnail.
 *
 * @param {HTMLImageElement} image @param {Document} document
 */
function still(image, document) {
  const scale = Math.min(1, STILL_PX / Math.min(image.naturalWidth, image.naturalHeight));
  const [width, height] = [image.naturalWidth, image.naturalHeight].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = create(document, "canvas", { width, height });
  canvas.getContext("2d")?.drawImage(image, 0, 0, width, height);
  return canvas;
}

/** @param {Run} run */
function newestPicture(run) {
  const step = newestStep(run.manifest);
  return step ? { file: step.files[0], at: step.at } : run.thumbnail;
}
