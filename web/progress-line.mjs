/** Shows how far a run is, where there is no room for the strip. */

import { create } from "./elements.mjs";
import { t } from "./language.mjs";

export class ProgressLine {
  /** @param {Document} document */
  constructor(document) {
    this.element = create(document, "div", { className: "progress", role: "progressbar", ariaLabel: t("Steps"), ariaValueMin: "0" });
  }

  /** @param {number} done number of steps @param {number} total @param {boolean} failed */
  show(done, total, failed) {
    this.element.style.setProperty("--done", String(total ? Math.min(1, done / total) : 0));
    Object.assign(this.element, { ariaValueNow: String(done), ariaValueMax: String(total) });
    this.element.classList.toggle("failed", failed);
  }
}
