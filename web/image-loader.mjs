/** Loads the requested pictures and paints them, one set at a time. */

/**
 * @typedef {object} ImageSet pictures that are painted together
 * @property {string} key names the runs; a set that loads late is painted only if the requested set has the same key
 * @property {string[]} addresses of the pictures
 */

/** @typedef {import("./image-cache.mjs").Picture} Picture */

/**
 * Requests the next set only after the last one is painted: a slow link skips sets and paints none too late.
 *
 * @template {ImageSet} Set
 */
export class ImageLoader {
  #images;
  #paint;
  /** @type {Set | null} */ #requested = null;
  /** @type {Set | null} */ #painted = null;
  /** @type {Set | null} */ #failed = null;
  #busy = false;

  /**
   * @param {import("./image-cache.mjs").ImageCache} images
   * @param {(set: Set, images: (Picture | null)[]) => void} paint null: a picture failed to load; a set
   *   of which all pictures failed is reported once
   */
  constructor(images, paint) {
    this.#images = images;
    this.#paint = paint;
  }

  /** Whether nothing is loading. */
  get idle() {
    return !this.#busy;
  }

  /** @param {Set | null} set null: request nothing, and leave the screen as it is */
  request(set) {
    this.#requested = set;
    if (!set || same(set, this.#painted)) return;
    const ready = set.addresses.map((address) => this.#images.ready(address));
    if (ready.every(Boolean)) this.#show(set, ready);
    else this.#load();
  }

  /** Makes the next request paint again, even a set that is on the screen or that failed. */
  reset() {
    this.#painted = this.#failed = null;
  }

  async #load() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let set = this.#requested; set && this.#isMissing(set); set = this.#requested) {
        const images = await Promise.all(set.addresses.map((address) => this.#images.get(address)));
        const overtaken = set !== this.#requested && !this.#isMissing(this.#requested);
        if (overtaken || set.key !== this.#requested?.key) continue;
        if (images.some(Boolean)) this.#show(set, images);
        else {
          this.#failed = set;
          this.#paint(set, images);
        }
      }
    } finally {
      this.#busy = false;
    }
  }

  /** @param {Set | null} set */
  #isMissing(set) {
    return set && !same(set, this.#painted) && !same(set, this.#failed);
  }

  /** @param {Set} set @param {(Picture | null)[]} images */
  #show(set, images) {
    this.#painted = set;
    this.#paint(set, images);
  }
}

/** @param {ImageSet | null} a @param {ImageSet | null} b */
function same(a, b) {
  return a !== null && b !== null && a.key === b.key && a.addresses.join("\n") === b.addresses.join("\n");
}
