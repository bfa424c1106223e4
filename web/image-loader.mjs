/** Puts the wanted pictures on the screen, one set of them at a time. */

/**
 * @typedef {object} Slide
 * @property {string} scene of which runs it is: what comes too late is shown only if that is still the same
 * @property {string[]} addresses of its pictures
 */

/**
 * The next slide is asked for when the last one is shown: on a slow link those between are left out and none is late.
 */
export class Projector {
  #pictures;
  #paint;
  #wanted = null;
  #shown = null;
  #lost = null;
  #busy = false;

  /**
   * @param {import("./image-cache.mjs").Pictures} pictures
   * @param {(slide: Slide, pictures: (HTMLImageElement | null)[]) => void} paint null: a picture cannot be had;
   *   a slide of which none can be had comes once
   */
  constructor(pictures, paint) {
    this.#pictures = pictures;
    this.#paint = paint;
  }

  /** Whether what is wanted is on the screen, as far as it can be had. */
  get idle() {
    return !this.#busy;
  }

  /** @param {Slide | null} slide null: nothing, what is on the screen stays */
  want(slide) {
    this.#wanted = slide;
    if (!slide || same(slide, this.#shown)) return;
    const ready = slide.addresses.map((address) => this.#pictures.ready(address));
    if (ready.every(Boolean)) this.#show(slide, ready);
    else this.#pull();
  }

  /** What is on the screen is something else by now, or what was lost may be back. */
  forget() {
    this.#shown = this.#lost = null;
  }

  async #pull() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let slide = this.#wanted; this.#missing(slide); slide = this.#wanted) {
        const pictures = await Promise.all(slide.addresses.map((address) => this.#pictures.get(address)));
        const overtaken = slide !== this.#wanted && !this.#missing(this.#wanted);
        if (overtaken || slide.scene !== this.#wanted?.scene) continue;
        if (pictures.some(Boolean)) this.#show(slide, pictures);
        else {
          this.#lost = slide;
          this.#paint(slide, pictures);
        }
      }
    } finally {
      this.#busy = false;
    }
  }

  #missing(slide) {
    return slide && !same(slide, this.#shown) && !same(slide, this.#lost);
  }

  #show(slide, pictures) {
    this.#shown = slide;
    this.#paint(slide, pictures);
  }
}

function same(a, b) {
  return a !== null && b !== null && a.scene === b.scene && a.addresses.join("\n") === b.addresses.join("\n");
}
