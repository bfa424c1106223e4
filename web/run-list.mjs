/** The row of runs, newest left. */

import { nameRun } from "./caption.mjs";
import { button, make, reface } from "./elements.mjs";
import { isSilent, newestStep } from "./manifest.mjs";

const MOST = 60; // thumbnails; older runs are there, but nobody looks for them by thumbnail
const EDGE_PX = 16; // that fade out

export class Runs {
  #document;
  #list;
  #compare;
  #load;
  #picture;
  #thumbs = new Map(); // by id of the run
  #sought = null;

  /**
   * @param {Document} document
   * @param {(address: string) => Promise<HTMLImageElement>} load
   * @param {(id: string, file: string, at: number | null) => string} picture
   * @param {{choose: (id: string, other: boolean) => void, compare: () => void}} told
   */
  constructor(document, load, picture, told) {
    this.#document = document;
    this.#load = load;
    this.#picture = picture;
    this.#list = make(document, "div", { className: "thumbs", role: "group", ariaLabel: "Runs, newest first" });
    this.#list.addEventListener("click", (event) => {
      const id = event.target.closest("button")?.dataset.run;
      if (id) told.choose(id, event.shiftKey || event.ctrlKey || event.metaKey);
    });
    this.#compare = button(document, "compare", "Compare two runs (C)", told.compare, "compare");
    this.element = make(document, "div", { className: "runs" }, this.#list, this.#compare);
  }

  /**
   * @param {import("./types.mjs").Run[]} runs newest first
   * @param {string | null} chosen
   * @param {string | null} other that it is compared with
   */
  show(runs, chosen, other) {
    const shown = runs.slice(0, MOST);
    const ids = new Set(shown.map(({ id }) => id));
    for (const [id, thumb] of this.#thumbs) {
      if (ids.has(id)) continue;
      thumb.element.remove();
      this.#thumbs.delete(id);
    }
    let before = null;
    shown.forEach((run, i) => {
      const thumb = this.#thumb(run.id);
      const { element } = thumb;
      if (element.previousSibling !== before || !element.parentNode) this.#list.insertBefore(element, before?.nextSibling ?? this.#list.firstChild);
      before = element;
      const silent = isSilent(run, Date.now());
      element.className = `thumb ${silent ? "silent" : run.state}${run.gone ? " gone" : ""}`;
      element.dataset.mark = other === null ? "" : run.id === chosen ? "A" : run.id === other ? "B" : "";
      element.dataset.key = i < 9 ? i + 1 : "";
      element.ariaPressed = String(run.id === chosen || run.id === other);
      element.title = nameRun(run);
      element.ariaLabel = `Run ${i + 1}: ${element.title}`;
      element.style.setProperty("--done", run.state === "running" && !silent ? Math.min(1, (run.index ?? 0) / (run.total || Infinity)) : 0);
      if (run.state !== "running" || !thumb.address) this.#want(thumb, run, newestOf(run));
    });
    this.#bringToSight(other ?? chosen);
    this.#compare.disabled = runs.length < 2;
    this.#compare.ariaPressed = String(other !== null);
    reface(this.#document, this.#compare, "compare", other === null ? "Compare two runs (C)" : "End the comparison (C)");
  }

  /** A picture of a run has just been on the screen: the browser has it. */
  saw(run, step) {
    const thumb = this.#thumbs.get(run.id);
    if (thumb && run.state === "running") this.#want(thumb, run, { file: step.files[0], at: step.at });
  }

  // Not `scrollIntoView`: it would also scroll whatever the viewer is in.
  #bringToSight(id) {
    if (id === this.#sought) return;
    this.#sought = id;
    const element = this.#thumbs.get(id)?.element;
    if (!element) return;
    const { offsetLeft, offsetWidth } = element;
    const { scrollLeft, clientWidth } = this.#list;
    if (offsetLeft < scrollLeft) this.#list.scrollLeft = offsetLeft;
    if (offsetLeft + offsetWidth > scrollLeft + clientWidth - EDGE_PX) this.#list.scrollLeft = offsetLeft + offsetWidth - clientWidth + EDGE_PX;
  }

  #thumb(id) {
    if (!this.#thumbs.has(id)) {
      const element = make(this.#document, "button", { type: "button", data: { run: id } });
      this.#thumbs.set(id, { element, address: null });
    }
    return this.#thumbs.get(id);
  }

  async #want(thumb, run, wanted) {
    if (!wanted || run.gone) return;
    const address = this.#picture(run.id, wanted.file, wanted.at);
    if (address === thumb.address) return;
    thumb.address = address;
    const picture = await this.#load(address).catch(() => null);
    if (!picture || thumb.address !== address) return;
    picture.alt = "";
    thumb.element.replaceChildren(picture);
  }
}

function newestOf(run) {
  const step = newestStep(run.manifest);
  return step ? { file: step.files[0], at: step.at } : run.thumbnail;
}
