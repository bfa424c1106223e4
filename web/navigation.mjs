/** Holds which run and which step the user looks at, and updates them when runs or steps arrive. */

import { endStep, nearestStep, newestStep, picturedSteps, stepAtSigma } from "./manifest.mjs";

/**
 * @typedef {import("./types.mjs").Run} Run
 * @typedef {import("./types.mjs").Manifest} Manifest
 * @typedef {import("./types.mjs").ManifestStep} ManifestStep
 * @typedef {{run: string, index: number, item: number | null}} Pin a picture of a run: its step and its item of a batch
 */

/** Holds ids and indices only; each method takes the runs or the manifest. `index` null follows the end of the run. */
export class Navigation {
  /** @type {string | null} */ run = null;
  /** @type {string | null} the run that `run` is compared with */ other = null;
  /** @type {Pin | null} the picture that the selected one is compared with, in place of a run */ pin = null;
  /** @type {number | null} */ index = null;
  /** @type {number | null} selected item of a batch; null: all items */ item = null;
  frame = 0;
  locked = false;
  playing = false;
  /** @type {1 | -1} direction of the last move */ direction = 1;
  /** @type {string | null} */ #newest = null;

  /**
   * Updates the list of runs. A new run is selected unless the user forbids that.
   *
   * @param {Run[]} runs newest first
   * @param {boolean} follow whether new runs are selected; a locked step always stays
   */
  update(runs, follow) {
    /** @param {string | null} id */
    const exists = (id) => runs.some((run) => run.id === id);
    const newest = runs[0]?.id ?? null;
    const isNew = newest !== this.#newest;
    this.#newest = newest;
    if (!exists(this.run) || (isNew && follow && !this.locked)) {
      this.locked &&= exists(this.run);
      this.run = newest;
      this.index = null;
      this.playing = false;
    }
    if (!exists(this.other) || this.other === this.run) this.other = null;
    if (this.pin && !exists(this.pin.run)) this.pin = null;
  }

  /** Whether two pictures are compared. */
  get comparing() {
    return this.other !== null || this.pin !== null;
  }

  /** Whether the view follows the newest step of the newest run. */
  get live() {
    return this.run !== null && this.run === this.#newest && this.index === null && !this.locked;
  }

  /** The selected step of a manifest, or null. @param {Manifest | null} manifest */
  step(manifest) {
    return this.index === null ? endStep(manifest) : nearestStep(picturedSteps(manifest), this.index);
  }

  /**
   * The step of the other run that is compared with `step` of the first.
   *
   * @param {ManifestStep | null} step @param {Manifest | null} manifest of the other run @param {"step" | "sigma"} lock
   */
  match(step, manifest, lock) {
    const steps = picturedSteps(manifest);
    if (!step) return steps.at(-1) ?? null;
    if (lock === "sigma" && step.sigma != null) return stepAtSigma(steps, step.sigma) ?? nearestStep(steps, step.index);
    return nearestStep(steps, step.index);
  }

  /** Selects the step nearest to `index`. @param {number} index @param {Manifest | null} manifest */
  goTo(index, manifest) {
    const before = this.step(manifest)?.index ?? 0;
    const after = nearestStep(picturedSteps(manifest), index)?.index;
    if (after === undefined) return;
    if (after !== before) this.direction = after > before ? 1 : -1;
    this.index = after;
  }

  /** Moves by `count` pictures; negative: back. @param {number} count @param {Manifest | null} manifest */
  moveBy(count, manifest) {
    const steps = picturedSteps(manifest);
    const selected = this.step(manifest);
    const at = selected ? steps.indexOf(selected) : -1;
    if (at < 0) return;
    this.index = steps[Math.min(Math.max(at + count, 0), steps.length - 1)].index;
    this.direction = count < 0 ? -1 : 1;
  }

  /** @param {Manifest | null} manifest */
  first(manifest) {
    this.goTo(0, manifest);
    this.direction = 1;
  }

  end() {
    this.index = null;
    this.direction = -1;
  }

  /**
   * Locks the selected step, so that new steps and runs do not replace it. If already locked, follows them again.
   *
   * @param {Manifest | null} manifest
   */
  toggleLock(manifest) {
    if (this.locked) return this.follow();
    this.index = this.step(manifest)?.index ?? null;
    this.locked = this.index !== null;
    this.playing = false;
  }

  /** Follows the newest step of the newest run. */
  follow() {
    this.locked = this.playing = false;
    this.run = this.#newest;
    this.index = null;
    if (this.other === this.run) this.other = null;
  }

  /**
   * Plays from the selected step, from the first step if that is the last; if already playing, pauses.
   *
   * @param {Manifest | null} manifest
   */
  togglePlay(manifest) {
    this.playing = !this.playing && picturedSteps(manifest).length > 1;
    if (this.playing && this.step(manifest) === newestStep(manifest)) this.first(manifest);
  }

  /** Advances by one picture while playing; ends at the newest one. @param {Manifest | null} manifest */
  tick(manifest) {
    if (!this.playing) return;
    this.moveBy(1, manifest);
    if (this.index === newestStep(manifest)?.index) {
      this.playing = false;
      this.index = null;
    }
  }

  /** Selects a run and keeps the step. In a comparison the run replaces the other one. @param {string} id */
  choose(id) {
    if (this.other === null) this.run = id;
    else if (id === this.run || id === this.other) [this.run, this.other] = [this.other, this.run];
    else this.other = id;
    this.playing = false;
  }

  /** Selects a run at its end, without a comparison. @param {string} id */
  select(id) {
    this.run = id;
    this.other = this.pin = this.index = null;
    this.playing = false;
  }

  /**
   * Selects another item of the batch; before the first item are all items. Returns false if there is no batch.
   *
   * @param {number} count @param {number} items of the batch
   */
  moveItem(count, items) {
    if (items < 2) return false;
    const at = this.item === null || this.item >= items ? -1 : this.item;
    const next = Math.min(Math.max(at + count, -1), items - 1);
    this.item = next < 0 ? null : next;
    return true;
  }

  /** Compares with a picture, whatever is selected from now on. @param {Pin} pin */
  comparePicture(pin) {
    this.other = null;
    this.pin = pin;
  }

  /** Compares with another item of the batch. @param {number} item @param {Manifest | null} manifest */
  compareItem(item, manifest) {
    const step = this.step(manifest);
    if (!step || this.run === null) return;
    if (this.item === null) this.item = item === 0 ? 1 : 0;
    this.comparePicture({ run: this.run, index: step.index, item });
  }

  /**
   * Keeps the second picture of a comparison; without one, the selected picture becomes the second. If there is such a
   * picture already, its run is compared from now on.
   *
   * @param {Manifest | null} manifest @param {ManifestStep | null} second shown step of the other run
   */
  togglePin(manifest, second) {
    if (this.pin) return this.unpin();
    const step = this.other === null ? this.step(manifest) : second;
    const run = this.other ?? this.run;
    if (step && run !== null) this.comparePicture({ run, index: step.index, item: this.item });
  }

  /** Compares with the run of the second picture from now on, at the same step; ends the comparison if that is this run. */
  unpin() {
    if (!this.pin) return;
    this.other = this.pin.run === this.run ? null : this.pin.run;
    this.pin = null;
  }

  endComparison() {
    this.other = this.pin = null;
  }

  /** Compares with a run, by default with the one before. @param {Run[]} runs @param {string} [id] */
  compare(runs, id) {
    const at = runs.findIndex((run) => run.id === this.run);
    const other = id ?? (runs[at + 1] ?? runs[at - 1])?.id ?? null;
    if (other === this.run) return;
    this.other = other;
    this.pin = null;
  }
}
