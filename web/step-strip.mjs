/** Draws the strip: the sigma curve, a tick for each step, below it how much the picture changed, and the scrubber. */

import { create, createSvg, onDrag, pointerPosition } from "./elements.mjs";
import { t } from "./language.mjs";

export const STRIP_HEIGHT_PX = 28; // of the curve
export const CHANGE_HEIGHT_PX = 12; // of the bars below it
const STRIP_MARGIN_PX = 10;
const TOP_PX = 4;
const FLOOR_PX = STRIP_HEIGHT_PX - 6;
const TICK_PX = 4;
const FAULT_PX = 2.5; // half the side of a cross
const UNKNOWN_HEIGHT = 0.5; // where no sigma is known
const [MAX_BAR_PX, MIN_BAR_PX, BAR_SHARE] = [5, 1, 0.6]; // widths of a bar, and its share of the room of a step
const FULL_CHANGE = 0.15; // has the longest bar; the first steps of a run change the picture by about as much
const FLAG_PX = 4;

/** @typedef {{x: (index: number) => number, index: (x: number) => number}} StepScale */

/**
 * Converts between step indices and horizontal positions.
 *
 * @param {number} width in pixels @param {number} total steps
 * @returns {StepScale}
 */
export function stepScale(width, total) {
  const room = Math.max(1, width - 2 * STRIP_MARGIN_PX);
  const last = Math.max(1, total - 1);
  return {
    x: (index) => (total > 1 ? STRIP_MARGIN_PX + ((index - 1) / last) * room : width / 2),
    index: (x) => Math.min(Math.max(Math.round(((x - STRIP_MARGIN_PX) / room) * last) + 1, 1), Math.max(total, 1)),
  };
}

/** The height of each step, 0 to 1; an unknown sigma takes the height before it. @param {(number | null)[]} sigmas @returns {number[]} */
export function sigmaHeights(sigmas) {
  const largest = Math.max(...sigmas.map((sigma) => sigma ?? 0));
  let before = UNKNOWN_HEIGHT;
  return sigmas.map((sigma) => (before = sigma == null || largest <= 0 ? before : sigma / largest));
}

/** A line through the first `count` points, and the area below it, as SVG paths. @param {{x: number, y: number}[]} points */
export function curve(points, count = points.length) {
  const part = points.slice(0, Math.max(0, count));
  if (part.length === 0) return { line: "", area: "" };
  const line = `M${part.map(({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;
  return { line, area: `${line}V${STRIP_HEIGHT_PX}H${part[0].x.toFixed(1)}Z` };
}

/**
 * A cross at the top of the strip for each of these steps, as an SVG path.
 *
 * @param {number[]} indices @param {(index: number) => number} x
 */
export function faultMarks(indices, x) {
  /** @param {number} center */
  const cross = (center) => `M${(center - FAULT_PX).toFixed(1)} 1l${2 * FAULT_PX} ${2 * FAULT_PX}m0 ${-2 * FAULT_PX}l${-2 * FAULT_PX} ${2 * FAULT_PX}`;
  return indices.map((index) => cross(x(index))).join("");
}

/** The length of the bar of a change, 0 to 1. The root makes small changes visible. @param {number} change 0 to 1 */
export function barLength(change) {
  return Math.sqrt(Math.min(change / FULL_CHANGE, 1));
}

/**
 * A bar for each change, which hangs from the curve's floor, as an SVG path.
 *
 * @param {[number, number][]} changes by step @param {Pick<StepScale, "x">} scale @param {number} total steps
 */
export function changeBars(changes, { x }, total) {
  const room = total > 1 ? x(2) - x(1) : MAX_BAR_PX;
  const width = Math.max(MIN_BAR_PX, Math.min(MAX_BAR_PX, room * BAR_SHARE));
  /** @param {[number, number]} change */
  const bar = ([index, change]) => {
    const length = Math.max(0.5, barLength(change) * CHANGE_HEIGHT_PX);
    return `M${(x(index) - width / 2).toFixed(1)} ${STRIP_HEIGHT_PX}h${width.toFixed(1)}v${length.toFixed(1)}h${(-width).toFixed(1)}z`;
  };
  return changes.map(bar).join("");
}

/**
 * @typedef {object} StripFacts
 * @property {number} total number of steps of the whole run
 * @property {(number | null)[]} sigmas sigma of each step
 * @property {number[]} steps indices of the steps with a picture
 * @property {[number, number][]} changes index and change, 0 to 1, of each step whose change is known
 * @property {number | null} settled index of the step at which the picture settled
 * @property {number[]} faults indices of the steps whose latents are partly NaN or infinite
 * @property {number} done index of the newest step
 * @property {number | null} at index of the selected step
 * @property {number | null} other index of the step of this run that it is compared with
 * @property {string} text description of the selected step for screen readers
 */

export class StepStrip {
  dragging = false;
  #document;
  /** @type {Record<string, SVGPathElement>} */ #paths = {}; // by class
  #dot;
  #svg;
  /** @type {StripFacts} */ #facts = { total: 0, sigmas: [], steps: [], changes: [], settled: null, faults: [], done: 0, at: null, other: null, text: "" };
  #width = 0;
  /** @type {number | null} */ #hover = null;
  #callbacks;

  /**
   * @param {Document} document
   * @param {{seek: (index: number) => void, compare: (index: number) => void, hover: (at: {index: number, x: number} | null) => void}} callbacks
   */
  constructor(document, callbacks) {
    this.#document = document;
    this.#callbacks = callbacks;
    /** @param {string} name */
    const path = (name) => (this.#paths[name] = createSvg(document, "path", { class: name }));
    const layers = ["area", "done-area", "lit-area", "line", "done-line", "lit-line", "bars", "lit-bars", "ticks", "lit-ticks", "settled", "faults", "hover", "other", "scrubber"];
    this.#dot = createSvg(document, "circle", { class: "dot", r: 4 });
    const stops = [0, 1].map((offset) => createSvg(document, "stop", { offset }));
    const gradient = { id: "lit", gradientUnits: "userSpaceOnUse", x1: 0, x2: 0, y1: 0, y2: STRIP_HEIGHT_PX };
    const lit = createSvg(document, "defs", {}, createSvg(document, "linearGradient", gradient, ...stops));
    this.#svg = createSvg(document, "svg", { "aria-hidden": "true", height: STRIP_HEIGHT_PX + CHANGE_HEIGHT_PX }, lit, ...layers.map(path), this.#dot);
    this.element = create(document, "div", { className: "strip", tabIndex: 0, role: "slider", ariaLabel: t("Step") }, this.#svg);
    this.element.ariaValueMin = "1";
    /** @param {PointerEvent} event */
    const seek = (event) => (event.shiftKey ? callbacks.compare : callbacks.seek)(this.#index(event));
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

  /** @param {StripFacts} facts */
  show(facts) {
    this.#facts = facts;
    const { element } = this;
    element.ariaValueMax = String(Math.max(facts.total, 1));
    element.ariaValueNow = String(facts.at ?? 1);
    element.ariaValueText = facts.text || t("no step yet");
    this.#draw();
  }

  /** Draws the strip again; to be called when the width has changed. */
  layout() {
    if (this.element.clientWidth === this.#width) return;
    this.#width = this.element.clientWidth;
    this.#svg.setAttribute("width", String(this.#width));
    this.#draw();
  }

  /** @param {PointerEvent} event */
  #index(event) {
    return stepScale(this.#width, this.#facts.total).index(pointerPosition(this.element, event).x);
  }

  /** @param {PointerEvent | null} event */
  #point(event) {
    const index = event && this.#facts.total ? this.#index(event) : null;
    if (index === this.#hover) return;
    this.#hover = index;
    this.#draw();
    this.#callbacks.hover(index === null ? null : { index, x: stepScale(this.#width, this.#facts.total).x(index) });
  }

  #draw() {
    const { total, sigmas, steps, changes, settled, faults, done, at, other } = this.#facts;
    const scale = stepScale(this.#width, total);
    const { x } = scale;
    /** @param {number} height */
    const y = (height) => FLOOR_PX - height * (FLOOR_PX - TOP_PX);
    const points = sigmaHeights(sigmas).map((height, i) => ({ x: x(i + 1), y: y(height) }));
    /** @param {string} name @param {string} d */
    const set = (name, d) => this.#paths[name].getAttribute("d") !== d && this.#paths[name].setAttribute("d", d);
    for (const [prefix, count] of Object.entries({ "": total, "done-": done, "lit-": at ?? 0 })) {
      const { line, area } = curve(points, count);
      set(`${prefix}line`, line);
      set(`${prefix}area`, area);
    }
    /** @param {number} index */
    const tick = (index) => `M${x(index).toFixed(1)} ${STRIP_HEIGHT_PX}v${-TICK_PX}`;
    set("ticks", steps.map(tick).join(""));
    set("lit-ticks", steps.filter((index) => at !== null && index <= at).map(tick).join(""));
    set("bars", changeBars(changes, scale, total));
    set("lit-bars", changeBars(changes.filter(([index]) => at !== null && index <= at), scale, total));
    const flag = `v${CHANGE_HEIGHT_PX}h${FLAG_PX}l${-FLAG_PX} ${-FLAG_PX}`;
    set("settled", settled === null ? "" : `M${x(settled).toFixed(1)} ${STRIP_HEIGHT_PX}${flag}`);
    set("faults", faultMarks(faults, x));
    /** @param {number | null} index */
    const vertical = (index) => (index === null ? "" : `M${x(index).toFixed(1)} 0V${STRIP_HEIGHT_PX}`);
    set("hover", vertical(this.#hover));
    set("other", vertical(other));
    set("scrubber", vertical(at));
    const selected = points[(at ?? 0) - 1];
    this.#dot.style.display = selected ? "" : "none";
    if (selected) for (const [axis, place] of Object.entries(selected)) this.#dot.setAttribute(`c${axis}`, place.toFixed(1));
    if (!total) set("line", `M${STRIP_MARGIN_PX} ${FLOOR_PX}H${Math.max(STRIP_MARGIN_PX, this.#width - STRIP_MARGIN_PX)}`);
  }
}
