/** Shows a small picture above the strip: the step under the pointer. */

import { formatSigma } from "./caption.mjs";
import { formatChange } from "./change.mjs";
import { create } from "./elements.mjs";
import { ImageLoader } from "./image-loader.mjs";
import { t } from "./language.mjs";
import { finalSize } from "./manifest.mjs";

const CANVAS = { width: 200, height: 300 }; // the largest one, shown at half of that
const EDGE_PX = 4;

export class HoverThumbnail {
  #canvas;
  #label;
  #change;
  #loader;
  /** @type {string | null} */ #run = null;

  /** @param {Document} document @param {import("./image-cache.mjs").ImageCache} images */
  constructor(document, images) {
    this.#canvas = create(document, "canvas", { className: "peek" });
    this.#label = create(document, "div", { className: "where" });
    this.#change = create(document, "div", { className: "changed" });
    this.element = create(document, "div", { className: "bubble", hidden: true }, this.#canvas, this.#label, this.#change);
    this.#loader = new ImageLoader(images, (_, [image]) => image && this.#draw(image));
  }

  /**
   * @param {import("./types.mjs").PicturedStep} shown
   * @param {string} address of its picture
   * @param {{x: number, top: number, width: number}} at position of the step, top of the strip, width of the viewer
   */
  show({ run, step }, address, at) {
    if (run.id !== this.#run) this.#clear(run);
    this.#canvas.hidden = false;
    this.#change.textContent = step.change == null ? "" : t("changed by {change}", { change: formatChange(step.change) });
    this.#place(`${step.index}${step.sigma == null ? "" : ` · σ ${formatSigma(step.sigma)}`}`, at);
    this.#loader.request({ key: run.id, addresses: [address] });
  }

  /** @param {string} text @param {{x: number, top: number, width: number}} at */
  #place(text, { x, top, width }) {
    this.element.hidden = false;
    this.#label.textContent = text;
    const own = this.element.offsetWidth;
    this.element.style.left = `${Math.min(Math.max(x - own / 2, EDGE_PX), width - own - EDGE_PX)}px`;
    this.element.style.setProperty("--strip-top", `${top}px`);
  }

  /**
   * Says that a step has no picture, because the run has not come so far.
   *
   * @param {import("./types.mjs").Run} run @param {number} index of the step
   * @param {{x: number, top: number, width: number}} at as for `show`
   */
  showMissing(run, index, at) {
    this.#loader.request(null);
    this.#canvas.hidden = true;
    this.#change.textContent = "";
    this.#place(`${index} · ${run.state === "running" ? t("not sampled yet") : t("not sampled")}`, at);
  }

  hide() {
    this.element.hidden = true;
    this.#loader.request(null);
  }

  /** Removes the picture of another run; a new size clears the canvas. @param {import("./types.mjs").Run} run */
  #clear(run) {
    this.#run = run.id;
    const size = finalSize(run.manifest) ?? { width: 1, height: 1 };
    const scale = Math.min(CANVAS.width / size.width, CANVAS.height / size.height);
    const [width, height] = [size.width, size.height].map((side) => Math.max(1, Math.round(side * scale)));
    Object.assign(this.#canvas, { width, height });
    this.#canvas.style.width = `${width / 2}px`;
    this.#loader.reset();
  }

  /** @param {import("./image-cache.mjs").Picture} image */
  #draw(image) {
    const context = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d"));
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, this.#canvas.width, this.#canvas.height);
  }
}
