/** Which run and which step a person looks at, and what becomes of that when something happens. */

import { nearestStep, newestStep, pictured, stepAtSigma } from "./manifest.mjs";

/** @typedef {import("./types.mjs").Run} Run */

/**
 * Holds no run, only names: what there is it is told each time. `index` null is the end of a run, however far that is.
 */
export class Travel {
  /** @type {string | null} */ run = null;
  /** @type {string | null} the run that `run` is compared with */ other = null;
  /** @type {number | null} */ index = null;
  /** @type {number | null} of a batch; null: all of them */ item = null;
  frame = 0;
  locked = false;
  playing = false;
  /** @type {1 | -1} which way the last move went */ direction = 1;
  #newest = null;

  /**
   * Takes in that there may be other runs. One that has begun is looked at, unless the person asked for something else.
   *
   * @param {Run[]} runs newest first
   * @param {boolean} follow
   */
  meet(runs, follow) {
    const there = (id) => runs.some((run) => run.id === id);
    const newest = runs[0]?.id ?? null;
    const begun = newest !== this.#newest;
    this.#newest = newest;
    if (!there(this.run) || (begun && follow && !this.locked)) {
      this.locked &&= there(this.run);
      this.run = newest;
      this.index = null;
      this.playing = false;
    }
    if (!there(this.other) || this.other === this.run) this.other = null;
  }

  /** Whether the newest step of the newest run is looked at. */
  get live() {
    return this.run !== null && this.run === this.#newest && this.index === null && !this.locked;
  }

  /** The step of a manifest that is looked at, or null. */
  step(manifest) {
    return this.index === null ? newestStep(manifest) : nearestStep(pictured(manifest), this.index);
  }

  /** The step of the other run that belongs to `step` of the first. @param {"step" | "sigma"} lock */
  match(step, manifest, lock) {
    const steps = pictured(manifest);
    if (!step) return steps.at(-1) ?? null;
    if (lock === "sigma" && step.sigma != null) return stepAtSigma(steps, step.sigma) ?? nearestStep(steps, step.index);
    return nearestStep(steps, step.index);
  }

  /** Looks at the step nearest to `index`. */
  go(index, manifest) {
    const before = this.step(manifest)?.index ?? 0;
    const after = nearestStep(pictured(manifest), index)?.index;
    if (after === undefined) return;
    if (after !== before) this.direction = after > before ? 1 : -1;
    this.index = after;
  }

  /** So many pictures on, or back. At the end of a run that is what is looked at, however far it goes. */
  by(count, manifest) {
    const steps = pictured(manifest);
    const at = steps.indexOf(this.step(manifest));
    if (at < 0) return;
    this.index = steps[Math.min(Math.max(at + count, 0), steps.length - 1)].index;
    this.direction = count < 0 ? -1 : 1;
  }

  first(manifest) {
    this.go(pictured(manifest)[0]?.index, manifest);
    this.direction = 1;
  }

  end() {
    this.index = null;
    this.direction = -1;
  }

  /** The step is held, whatever comes; the second time, back to what comes. */
  toggleLock(manifest) {
    if (this.locked) return this.follow();
    this.index = this.step(manifest)?.index ?? null;
    this.locked = this.index !== null;
    this.playing = false;
  }

  /** To the newest step of the newest run. */
  follow() {
    this.locked = this.playing = false;
    this.run = this.#newest;
    this.index = null;
    if (this.other === this.run) this.other = null;
  }

  /** Plays from here, from the first step if this is the last. */
  togglePlay(manifest) {
    this.playing = !this.playing && pictured(manifest).length > 1;
    if (this.playing && this.step(manifest) === newestStep(manifest)) this.first(manifest);
  }

  /** The next picture of what is played; at the newest one it ends. */
  tick(manifest) {
    if (!this.playing) return;
    this.by(1, manifest);
    if (this.index === newestStep(manifest)?.index) {
      this.playing = false;
      this.index = null;
    }
  }

  /** Looks at a run: at the step that was held, or at its end. Of two that are compared, it takes the other's place. */
  choose(id) {
    if (this.other === null) this.run = id;
    else if (id === this.run || id === this.other) this.swap();
    else this.other = id;
    this.playing = false;
  }

  swap() {
    [this.run, this.other] = [this.other, this.run];
  }

  /** Compares with a run, by default with the one before. @param {Run[]} runs @param {string} [id] */
  compare(runs, id) {
    const at = runs.findIndex((run) => run.id === this.run);
    const other = id ?? (runs[at + 1] ?? runs[at - 1])?.id ?? null;
    if (other !== this.run) this.other = other;
  }
}
