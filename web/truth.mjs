/** Shows how true the pictures of a run are: a figure for the status bar, and a curve over the steps. */

import { create, createSvg } from "./elements.mjs";
import { decimal, t } from "./language.mjs";
import { curve, stepScale, STRIP_HEIGHT_PX } from "./step-strip.mjs";

const TOP_PX = 4;
const FLOOR_PX = STRIP_HEIGHT_PX - 4;
const MAX_DB = 50; // where two pictures look the same

/** @typedef {import("./types.mjs").Manifest} Manifest */

/**
 * The PSNR of the last preview against the VAE's picture: `28.4 dB true`; empty if the VAE did not decode.
 *
 * @param {Manifest | null} manifest
 */
export function truthLabel(manifest) {
  const db = manifest?.truth?.psnr_db;
  return db == null ? "" : t("{db} dB true", { db: decimal(db, 1) });
}

/** What the figure means, with the steps of the curve. @param {Manifest | null} manifest */
export function truthText(manifest) {
  const truth = manifest?.truth;
  if (truth?.psnr_db == null) return "";
  const db = decimal(truth.psnr_db, 1);
  return truth.decoder
    ? t("The last preview ({decoder}) has {db} dB against the VAE's picture, at latent size. The curve compares each step with the last preview.", { decoder: truth.decoder, db })
    : t("The last preview has {db} dB against the VAE's picture, at latent size. The curve compares each step with the last preview.", { db });
}

/** The points of the curve, by the step's number. @param {[number, number][]} toLast @param {(index: number) => number} x */
export function truthPoints(toLast, x) {
  return toLast.map(([index, db]) => ({ x: x(index), y: FLOOR_PX - (Math.min(Math.max(db, 0), MAX_DB) / MAX_DB) * (FLOOR_PX - TOP_PX) }));
}

/** The curve below the strip. It is hidden until the user asks for it. */
export class TruthCurve {
  #line;
  #svg;
  /** @type {{manifest: Manifest | null, total: number}} */ #facts = { manifest: null, total: 0 };

  /** @param {Document} document */
  constructor(document) {
    this.#line = createSvg(document, "path", { class: "line" });
    this.#svg = createSvg(document, "svg", { "aria-hidden": "true", height: STRIP_HEIGHT_PX }, this.#line);
    this.element = create(document, "div", { className: "truth-curve", role: "img", hidden: true }, this.#svg);
  }

  toggle() {
    this.element.hidden = !this.element.hidden;
    this.layout();
  }

  /** @param {Manifest | null} manifest @param {number} total number of steps */
  show(manifest, total) {
    this.#facts = { manifest, total };
    if (!truthLabel(manifest)) this.element.hidden = true;
    this.element.title = this.element.ariaLabel = truthText(manifest);
    this.layout();
  }

  /** Draws the curve at the current width. */
  layout() {
    if (this.element.hidden) return;
    const { manifest, total } = this.#facts;
    const width = this.element.clientWidth;
    this.#svg.setAttribute("width", String(width));
    this.#line.setAttribute("d", curve(truthPoints(manifest?.truth?.to_last_db ?? [], stepScale(width, total).x)).line);
  }
}
