/** Determines the pictures to show from the user's navigation: of which runs, steps, items and frames. */

import { frameAddress } from "./animation-frames.mjs";
import { frameCount, nearestStep, picturedSteps, stepFile, stepLayout, stepOf } from "./manifest.mjs";
import { Navigation } from "./navigation.mjs";

/** @typedef {import("./types.mjs").Run} Run @typedef {import("./types.mjs").ManifestStep} ManifestStep */
/** @typedef {import("./types.mjs").ShownStep} ShownStep @typedef {import("./types.mjs").PicturedStep} PicturedStep */
/** @typedef {import("./export.mjs").ShownPictures} ShownPictures */

/** @typedef {import("./image-loader.mjs").ImageSet & {panes: ShownPictures[], frame: number}} PictureSet the pictures of one or two runs */

const PRELOADED_STEPS = 2;
const PRELOADED_FRAMES = 8; // of an animated picture

/**
 * @typedef {object} Layout of the selected step
 * @property {number} items of a batch
 * @property {number} frames of a video that can be shown one by one
 * @property {boolean} animated the browser plays the pictures
 * @property {boolean} decodable single frames can be decoded from the file that contains all of them
 */

export class ViewSelection {
  navigation = new Navigation();
  /** @type {boolean | null} whether a video plays; null: as the user's system settings say */ playFrames = null;
  #source;
  #view;
  #frames;
  #prefersReducedMotion;

  /**
   * @param {import("./types.mjs").Source} source
   * @param {import("./types.mjs").View} view read each time
   * @param {{supported: boolean}} frames whether single frames can be decoded; read each time
   * @param {() => boolean} prefersReducedMotion
   */
  constructor(source, view, frames, prefersReducedMotion) {
    this.#source = source;
    this.#view = view;
    this.#frames = frames;
    this.#prefersReducedMotion = prefersReducedMotion;
  }

  /** Updates the list of runs. */
  update() {
    this.navigation.update(this.#source.runs(), this.#view.follow);
  }

  /** The selected picture and the one that it is compared with. @returns {ShownStep[]} */
  get pair() {
    const runs = this.#source.runs();
    const { run, other, pin, item } = this.navigation;
    const [a, b] = [run, pin?.run ?? other].map((id) => runs.find((run) => run.id === id) ?? null);
    if (!a) return [];
    const first = { run: a, step: this.navigation.step(a.manifest), item };
    if (!b) return [first];
    if (pin) return [first, { run: b, step: nearestStep(picturedSteps(b.manifest), pin.index), item: pin.item }];
    return [first, { run: b, step: this.#match(first.step, b), item }];
  }

  /** The manifest of the selected run, or null. */
  get manifest() {
    return this.pair[0]?.run.manifest ?? null;
  }

  get framesPlaying() {
    return this.playFrames ?? !this.#prefersReducedMotion();
  }

  /** @returns {Layout} */
  get layout() {
    const [first] = this.pair;
    if (!first?.step) return { items: 1, frames: 1, animated: false, decodable: false };
    const { run, step } = first;
    const layout = stepLayout(run.manifest, step);
    const decodable = layout.animated && this.#frames.supported;
    const single = decodable && !this.framesPlaying;
    return single ? { ...layout, frames: frameCount({ run, step }), animated: false, decodable } : { ...layout, decodable };
  }

  /**
   * The pictures to show; null while a run has none that can be shown.
   *
   * @returns {PictureSet | null}
   */
  images(frame = this.navigation.frame) {
    const { pair } = this;
    const panes = pair.map((shown) => this.#picturesOf(shown, frame)).filter((pictures) => pictures !== null);
    if (!panes.length || panes.length < pair.length) return null;
    return { key: pairKey(pair), addresses: panes.flatMap(({ addresses }) => addresses), panes, frame };
  }

  /**
   * The pictures of a run's step; null if there are none, or if their size is not known.
   *
   * @param {ShownStep} shown @param {number} frame
   * @returns {ShownPictures | null}
   */
  #picturesOf({ run, step, item }, frame) {
    if (!step || !hasSize(run)) return null;
    const shown = { run, step, item };
    const addresses = this.addresses(shown, frame);
    if (!addresses.length) return null;
    const items = itemsOf(shown);
    return { run, step, addresses, exports: this.#exports(shown, frame), item: items.length < stepLayout(run.manifest, step).items ? items[0] : null };
  }

  /** The addresses of a step's pictures: of the whole batch, or of one item. @param {PicturedStep} shown @returns {string[]} */
  addresses(shown, frame = this.navigation.frame) {
    const { run, step } = shown;
    const addresses = filesOf(this.#withLatents(shown), frame).map((file) => this.#source.picture(run.id, file, step.at));
    return this.#isWhole(run, step) ? addresses : addresses.map((address) => frameAddress(address, frame));
  }

  /**
   * The addresses under which the source gives a step's pictures as files to save; empty if it has none.
   *
   * @param {PicturedStep} shown @param {number} frame
   * @returns {string[]}
   */
  #exports(shown, frame) {
    const exported = this.#source.exported?.bind(this.#source);
    if (!exported) return [];
    const { run, step } = shown;
    const single = this.#isWhole(run, step) ? null : frame;
    return filesOf(this.#withLatents(shown), frame).map((file) => exported(run.id, file, single));
  }

  /** @param {PicturedStep} shown */
  #withLatents(shown) {
    return { ...shown, step: stepOf(shown.step, this.#view.latents) };
  }

  /** Whether a step's files are shown whole; false: a single frame of each. @param {Run} run @param {ManifestStep} step */
  #isWhole(run, step) {
    return !stepLayout(run.manifest, step).animated || this.framesPlaying || !this.#frames.supported;
  }

  /** Addresses to preload: of the next frames, and of the next steps in the direction of the last move. @returns {string[]} */
  upcoming() {
    const { navigation, pair } = this;
    const { frames, decodable } = this.layout;
    const length = Math.max(0, Math.min(frames, decodable ? PRELOADED_FRAMES : frames) - 1);
    const nextFrames = Array.from({ length }, (_, i) => (navigation.frame + i + 1) % frames);
    return [
      ...nextFrames.flatMap((frame) => this.images(frame)?.addresses ?? []),
      ...(navigation.index === null ? [] : this.#nextSteps(pair)).flatMap((shown) => this.addresses(shown)),
    ];
  }

  /** @param {ShownStep[]} pair @returns {PicturedStep[]} */
  #nextSteps([first, second]) {
    if (!first?.step) return [];
    const steps = picturedSteps(first.run.manifest);
    const at = steps.indexOf(first.step);
    if (at < 0) return [];
    const next = Array.from({ length: PRELOADED_STEPS }, (_, i) => steps[at + (i + 1) * this.navigation.direction]).filter(Boolean);
    return next.flatMap((step) => {
      const other = second && !this.navigation.pin ? this.#match(step, second.run) : null;
      return [{ ...first, step }, ...(other ? [{ ...second, step: other }] : [])];
    });
  }

  /** @param {ManifestStep | null} step @param {Run} run */
  #match(step, run) {
    return this.navigation.match(step, run.manifest, this.#view.lock);
  }
}

/** A name for the runs that are shown together. @param {ShownStep[]} pair */
export function pairKey(pair) {
  return pair.map(({ run }) => run.id).join();
}

/** The items of a step that are shown: one if the step has it, else all. @param {PicturedStep} shown */
function itemsOf({ run, step, item }) {
  const { items } = stepLayout(run.manifest, step);
  return item == null || item >= items ? Array.from({ length: items }, (_, i) => i) : [item];
}

/** @param {PicturedStep} shown @param {number} frame @returns {string[]} */
function filesOf(shown, frame) {
  return itemsOf(shown).flatMap((item) => stepFile(shown.run.manifest, shown.step, item, frame) || []);
}

/** Whether the size of a run's pictures is known. Events report steps before it is; showing them would move the layout. @param {Run} run */
function hasSize(run) {
  return run.manifest?.picture != null || !run.stale;
}
