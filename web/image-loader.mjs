/** Loads the requested pictures and paints them, one set at a time. */

/**
 * @typedef {object} ImageSet pictures that are painted together
 * @property {string} key names the runs; a set that loads late is painted only if the requested set has the same key
 * @property {string[]} addresses of the pictures
 */

/** Requests the next set only after the last one is painted: a slow link skips sets and paints none too late. */
export class ImageLoader {
  #images;
  #paint;
  #requested = null;
  #painted = null;
  #failed = null;
  #busy = false;

  /**
   * @param {import("./image-cache.mjs").ImageCache} images
   * @param {(set: ImageSet, images: (HTMLImageElement | null)[]) => void} paint null: a picture failed to load; a set
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

  /** @param {ImageSet | null} set null: request nothing, and leave the screen as it is */
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
      for (let set = this.#requested; this.#isMissing(set); set = this.#requested) {
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

  #isMissing(set) {
    return set && !same(set, this.#painted) && !same(set, this.#failed);
  }

  #show(set, images) {
    this.#painted = set;
    this.#paint(set, images);
  }
}

function same(a, b) {
  return a !== null && b !== null && a.key === b.key && a.addresses.join("\n") === b.addresses.join("\n");
}
