/** Caches decoded pictures that are ready to paint, the most recently used ones. */

const MAX_IMAGES = 200;

/** @typedef {HTMLImageElement | HTMLCanvasElement} Picture a file, or a single frame of one */

/** Loads and decodes a picture, so that it appears without a flash. @param {string} address @param {Document} document */
export async function loadImage(address, document) {
  const image = document.createElement("img");
  image.src = address;
  await image.decode();
  image.draggable = false; // ComfyUI opens a picture that is dropped on its canvas as a workflow
  return image;
}

export class ImageCache {
  #load;
  #limit;
  /** @type {Map<string, Picture>} */ #ready = new Map(); // by address, the most recently used last
  /** @type {Map<string, Promise<Picture | null>>} */ #loading = new Map(); // by address

  /** @param {(address: string) => Promise<Picture>} load @param {number} [limit] number of cached pictures */
  constructor(load, limit = MAX_IMAGES) {
    this.#load = load;
    this.#limit = limit;
  }

  /** The picture if it is cached, else null. @param {string} address */
  ready(address) {
    const image = this.#ready.get(address) ?? null;
    if (image) this.#store(address, image);
    return image;
  }

  /** The picture once it is loaded, or null if that fails. Parallel calls share one request. @param {string} address */
  async get(address) {
    const ready = this.ready(address);
    if (ready) return ready;
    let loading = this.#loading.get(address);
    if (!loading) {
      loading = this.#load(address)
        .catch(() => null)
        .finally(() => this.#loading.delete(address));
      this.#loading.set(address, loading);
    }
    const image = await loading;
    if (image) this.#store(address, image);
    return image;
  }

  /** @param {string} address @param {Picture} image */
  #store(address, image) {
    this.#ready.delete(address);
    this.#ready.set(address, image);
    const [oldest] = this.#ready.keys();
    if (this.#ready.size > this.#limit) this.#ready.delete(oldest);
  }
}
