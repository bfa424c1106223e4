/** What is looked at: which runs, at which of their steps, in which pictures. */

import { frameAddress } from "./animation-frames.mjs";
import { extent, fileOf, framesOf, pictured } from "./manifest.mjs";
import { Travel } from "./navigation.mjs";

/** @typedef {import("./types.mjs").Run} Run @typedef {import("./types.mjs").ManifestStep} ManifestStep */

const AHEAD = 2; // steps whose pictures are loaded before they are asked for
const FRAMES_AHEAD = 8; // of an animated picture that is taken apart

/**
 * @typedef {object} Extent of the first run's step
 * @property {number} items of a batch
 * @property {number} frames of a video that can be shown one by one
 * @property {boolean} animated its pictures play by themselves
 * @property {boolean} apart its frames can be had one by one, although they are in one file
 */

export class Sight {
  travel = new Travel();
  /** @type {boolean | null} whether a video plays; null: as the person likes motion */ rolls = null;
  #source;
  #view;
  #frames;
  #isCalm;

  /**
   * @param {import("./types.mjs").Source} source
   * @param {import("./types.mjs").View} view read anew each time
   * @param {{able: boolean}} frames whether animated pictures can be taken apart, read anew each time
   * @param {() => boolean} isCalm whether the person would rather see nothing move by itself
   */
  constructor(source, view, frames, isCalm) {
    this.#source = source;
    this.#view = view;
    this.#frames = frames;
    this.#isCalm = isCalm;
  }

  /** Takes in that there may be other runs. */
  meet() {
    this.travel.meet(this.#source.runs(), this.#view.follow);
  }

  /** The run that is looked at, and the one that it is compared with. @returns {import("./types.mjs").Shown[]} */
  get pair() {
    const runs = this.#source.runs();
    const of = (id) => runs.find((run) => run.id === id) ?? null;
    const [a, b] = [of(this.travel.run), of(this.travel.other)];
    if (!a) return [];
    const step = this.travel.step(a.manifest);
    return b ? [{ run: a, step }, { run: b, step: this.#match(step, b) }] : [{ run: a, step }];
  }

  /** Of the run that is looked at. */
  get manifest() {
    return this.pair[0]?.run.manifest ?? null;
  }

  get rolling() {
    return this.rolls ?? !this.#isCalm();
  }

  /** @returns {Extent} */
  get extent() {
    const [first] = this.pair;
    if (!first?.step) return { items: 1, frames: 1, animated: false, apart: false };
    const found = extent(first.run.manifest, first.step);
    const apart = found.animated && this.#frames.able;
    const held = apart && !this.rolling;
    return held ? { ...found, frames: framesOf(first), animated: false, apart } : { ...found, apart };
  }

  /**
   * What a projector is to put on the screen; null while there is a run of which it is not known.
   *
   * @returns {import("./image-loader.mjs").Slide & {panes: import("./export.mjs").Shown[], frame: number} | null}
   */
  slide(frame = this.travel.frame) {
    const { pair } = this;
    const panes = pair.map(({ run, step }) => {
      if (!step || !isWhole(run)) return { run, step, addresses: [], item: null };
      const items = this.#items(run, step);
      const item = items.length < extent(run.manifest, step).items ? items[0] : null;
      return { run, step, addresses: this.addresses(run, step, frame), item };
    });
    if (!panes.length || panes.some(({ addresses }) => !addresses.length)) return null;
    return { scene: sceneOf(pair), addresses: panes.flatMap(({ addresses }) => addresses), panes, frame };
  }

  /** Of the pictures of a step: of the whole batch, or of the one that was chosen. @returns {string[]} */
  addresses(run, step, frame = this.travel.frame) {
    const files = this.#items(run, step).map((item) => fileOf(run.manifest, step, item, frame)).filter(Boolean);
    const addresses = files.map((file) => this.#source.picture(run.id, file, step.at));
    const whole = !extent(run.manifest, step).animated || this.rolling || !this.#frames.able;
    return whole ? addresses : addresses.map((address) => frameAddress(address, frame));
  }

  /** All pictures of a batch, or the one of them that was chosen, as long as there is that one. */
  #items(run, step) {
    const { items } = extent(run.manifest, step);
    const { item } = this.travel;
    return item === null || item >= items ? Array.from({ length: items }, (_, i) => i) : [item];
  }

  /** Of what will soon be looked at: the next frames, and the next steps in the direction of travel. @returns {string[]} */
  ahead() {
    const { travel, pair } = this;
    const { frames, apart } = this.extent;
    const coming = Math.min(frames, apart ? FRAMES_AHEAD : frames) - 1;
    const addresses = Array.from({ length: Math.max(0, coming) }, (_, i) => (travel.frame + i + 1) % frames);
    return [
      ...addresses.flatMap((frame) => this.slide(frame)?.addresses ?? []),
      ...(travel.index === null ? [] : this.#stepsAhead(pair)).flatMap(({ run, step }) => this.addresses(run, step)),
    ];
  }

  #stepsAhead([first, second]) {
    const steps = pictured(first?.run.manifest);
    const at = steps.indexOf(first?.step);
    if (at < 0) return [];
    const next = Array.from({ length: AHEAD }, (_, i) => steps[at + (i + 1) * this.travel.direction]).filter(Boolean);
    const beside = ({ run }, step) => ({ run, step: this.#match(step, run) });
    const both = next.flatMap((step) => [{ run: first.run, step }, ...(second ? [beside(second, step)] : [])]);
    return both.filter(({ step }) => step);
  }

  #match(step, run) {
    return this.travel.match(step, run.manifest, this.#view.lock);
  }
}

/** A name for the runs that are looked at together. @param {import("./types.mjs").Shown[]} pair */
export function sceneOf(pair) {
  return pair.map(({ run }) => run.id).join();
}

/** The first steps are told before anybody has read how large they are: a picture without its size would move things. */
function isWhole(run) {
  return run.manifest.picture !== null || !run.stale;
}
