/** A small picture over the strip: the step that is pointed at. */

import { shortSigma } from "./caption.mjs";
import { make } from "./elements.mjs";
import { shape } from "./manifest.mjs";
import { Projector } from "./image-loader.mjs";

const WIDTH_PX = 200; // of the canvas, which is drawn at half of that
const MOST_HEIGHT_PX = 300;
const EDGE_PX = 4;

export class Glance {
  #canvas;
  #where;
  #projector;
  #run = null;

  /** @param {Document} document @param {import("./image-cache.mjs").Pictures} pictures */
  constructor(document, pictures) {
    this.#canvas = make(document, "canvas", { className: "peek" });
    this.#where = make(document, "div", { className: "where" });
    this.element = make(document, "div", { className: "bubble", hidden: true }, this.#canvas, this.#where);
    this.#projector = new Projector(pictures, (_, [picture]) => picture && this.#draw(picture));
  }

  /**
   * @param {import("./types.mjs").Shown} shown
   * @param {string} address of its picture
   * @param {{x: number, top: number, width: number}} at where the step is, how far down the strip begins, and the room
   */
  show({ run, step }, address, { x, top, width }) {
    if (run.id !== this.#run) this.#empty(run);
    this.element.hidden = false;
    this.#where.textContent = `${step.index}${step.sigma == null ? "" : ` · σ ${shortSigma(step.sigma)}`}`;
    const own = this.element.offsetWidth;
    this.element.style.left = `${Math.min(Math.max(x - own / 2, EDGE_PX), width - own - EDGE_PX)}px`;
    this.element.style.setProperty("--strip-top", `${top}px`);
    this.#projector.want({ scene: run.id, addresses: [address] });
  }

  hide() {
    this.element.hidden = true;
    this.#projector.want(null);
  }

  /** No picture of another run is left. */
  #empty(run) {
    this.#run = run.id;
    const { width, height } = shape(run.manifest) ?? { width: 1, height: 1 };
    Object.assign(this.#canvas, { width: WIDTH_PX, height: Math.round(Math.min(MOST_HEIGHT_PX, (WIDTH_PX * height) / width)) });
    this.#projector.forget();
  }

  #draw(picture) {
    const context = this.#canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, this.#canvas.width, this.#canvas.height);
  }
}
