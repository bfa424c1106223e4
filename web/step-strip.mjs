/** The strip: the curve of sigma, a tick for each step and the scrubber, in one drawing. */

import { draw, make, onDrag, pointIn } from "./elements.mjs";

export const STRIP_HEIGHT_PX = 28;
const MARGIN_PX = 10;
const TOP_PX = 4;
const FLOOR_PX = STRIP_HEIGHT_PX - 6;
const TICK_PX = 4;
const LEVEL = 0.5; // of the curve where no sigma is known

/** Which step is where. @param {number} width in pixels @param {number} total */
export function track(width, total) {
  const room = Math.max(1, width - 2 * MARGIN_PX);
  const last = Math.max(1, total - 1);
  return {
    x: (index) => (total > 1 ? MARGIN_PX + ((index - 1) / last) * room : width / 2),
    index: (x) => Math.min(Math.max(Math.round(((x - MARGIN_PX) / room) * last) + 1, 1), Math.max(total, 1)),
  };
}

/** The height of each step, 0 to 1, by its sigma. @param {(number | null)[]} sigmas @returns {number[]} */
export function heights(sigmas) {
  const largest = Math.max(...sigmas.map((sigma) => sigma ?? 0));
  let before = LEVEL;
  return sigmas.map((sigma) => (before = sigma == null || largest <= 0 ? before : sigma / largest));
}

/** A line through the first `count` points, and the ground below it, as SVG paths. */
export function curve(points, count = points.length) {
  const part = points.slice(0, Math.max(0, count));
  if (part.length === 0) return { line: "", area: "" };
  const line = `M${part.map(({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;
  return { line, area: `${line}V${STRIP_HEIGHT_PX}H${part[0].x.toFixed(1)}Z` };
}

export class Strip {
  dragging = false;
  #document;
  #parts = {};
  #svg;
  #facts = { total: 0, sigmas: [], steps: [], done: 0, at: null, text: "" };
  #width = 0;
  #hover = null;
  #told;

  /**
   * @param {Document} document
   * @param {{seek: (index: number) => void, hover: (at: {index: number, x: number} | null) => void}} told
   */
  constructor(document, told) {
    this.#document = document;
    this.#told = told;
    const path = (name) => (this.#parts[name] = draw(document, "path", { class: name }));
    const layers = ["area", "done-area", "lit-area", "line", "done-line", "lit-line", "ticks", "lit-ticks", "hover", "scrubber"];
    this.#parts.dot = draw(document, "circle", { class: "dot", r: 4 });
    const stops = [0, 1].map((offset) => draw(document, "stop", { offset }));
    const fade = { id: "lit", gradientUnits: "userSpaceOnUse", x1: 0, x2: 0, y1: 0, y2: STRIP_HEIGHT_PX };
    const lit = draw(document, "defs", {}, draw(document, "linearGradient", fade, ...stops));
    this.#svg = draw(document, "svg", { "aria-hidden": "true", height: STRIP_HEIGHT_PX }, lit, ...layers.map(path), this.#parts.dot);
    this.element = make(document, "div", { className: "strip", tabIndex: 0, role: "slider", ariaLabel: "Step" }, this.#svg);
    this.element.ariaValueMin = "1";
    const seek = (event) => told.seek(this.#index(event));
    onDrag(
      this.element,
      (event) => {
        if (!this.#facts.total) return false;
        this.dragging = true;
        this.#point(null);
        seek(event);
      },
      seek,
      () => (this.dragging = false),
    );
    this.element.addEventListener("pointermove", (event) => !this.dragging && event.buttons === 0 && this.#point(event));
    this.element.addEventListener("pointerleave", () => this.#point(null));
  }

  /**
   * @param {object} facts
   * @param {number} facts.total steps that there will be
   * @param {(number | null)[]} facts.sigmas of each
   * @param {number[]} facts.steps those that have a picture
   * @param {number} facts.done the newest one that was sampled
   * @param {number | null} facts.at the one that is looked at
   * @param {string} facts.text what that is, in words
   */
  show(facts) {
    this.#facts = facts;
    const { element } = this;
    element.ariaValueMax = String(Math.max(facts.total, 1));
    element.ariaValueNow = String(facts.at ?? 1);
    element.ariaValueText = facts.text || "no step yet";
    this.#draw();
  }

  /** To be called when there is another width for it. */
  layout() {
    if (this.element.clientWidth === this.#width) return;
    this.#width = this.element.clientWidth;
    this.#svg.setAttribute("width", this.#width);
    this.#draw();
  }

  #index(event) {
    return track(this.#width, this.#facts.total).index(pointIn(this.element, event).x);
  }

  #point(event) {
    const index = event && this.#facts.total ? this.#index(event) : null;
    if (index === this.#hover) return;
    this.#hover = index;
    this.#draw();
    this.#told.hover(index === null ? null : { index, x: track(this.#width, this.#facts.total).x(index) });
  }

  #draw() {
    const { total, sigmas, steps, done, at } = this.#facts;
    const { x } = track(this.#width, total);
    const y = (height) => FLOOR_PX - height * (FLOOR_PX - TOP_PX);
    const points = heights(sigmas).map((height, i) => ({ x: x(i + 1), y: y(height) }));
    const set = (name, d) => this.#parts[name].setAttribute("d", d);
    for (const [prefix, count] of [["", total], ["done-", done], ["lit-", at ?? 0]]) {
      const { line, area } = curve(points, count);
      set(`${prefix}line`, line);
      set(`${prefix}area`, area);
    }
    const tick = (index) => `M${x(index).toFixed(1)} ${STRIP_HEIGHT_PX}v${-TICK_PX}`;
    set("ticks", steps.map(tick).join(""));
    set("lit-ticks", steps.filter((index) => at !== null && index <= at).map(tick).join(""));
    const upright = (index) => (index === null ? "" : `M${x(index).toFixed(1)} 0V${STRIP_HEIGHT_PX}`);
    set("hover", upright(this.#hover));
    set("scrubber", upright(at));
    const here = points[(at ?? 0) - 1];
    this.#parts.dot.style.display = here ? "" : "none";
    if (here) this.#parts.dot.setAttribute("cx", here.x.toFixed(1)), this.#parts.dot.setAttribute("cy", here.y.toFixed(1));
    if (!total) set("line", `M${MARGIN_PX} ${FLOOR_PX}H${Math.max(MARGIN_PX, this.#width - MARGIN_PX)}`);
  }
}
