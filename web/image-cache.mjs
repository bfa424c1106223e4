/** Caches decoded pictures that are ready to paint, the most recently used ones. */

const MAX_IMAGES = 200;

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
  #ready = new Map(); // by address, the most recently used last
  #loading = new Map(); // promises by address

  /** @param {(address: string) => Promise<HTMLImageElement>} load @param {number} [limit] number of cached pictures */
  constructor(load, limit = MAX_IMAGES) {
    this.#load = load;
    this.#limit = limit;
  }

  /** The picture if it is cached, else null. */
  ready(address) {
    const image = this.#ready.get(address) ?? null;
    if (image) this.#store(address, image);
    return image;
  }

  /** The picture once it is loaded, or null if that fails. Parallel calls share one request. */
  async get(address) {
    const ready = this.ready(address);
    if (ready) return ready;
    if (!this.#loading.has(address)) {
      const loading = this.#load(address)
        .catch(() => null)
        .finally(() => this.#loading.delete(address));
      this.#loading.set(address, loading);
    }
    const image = await this.#loading.get(address);
    if (image) this.#store(address, image);
    return image;
  }

  #store(address, image) {
    this.#ready.delete(address);
    this.#ready.set(address, image);
    if (this.#ready.size > this.#limit) this.#ready.delete(this.#ready.keys().next().value);
  }
}
