/** Pictures that are ready to be painted, the ones that were used last. */

const LIMIT = 200;

/** Loads a picture so that it can be shown without a flash. @param {string} address @param {Document} document */
export async function loadPicture(address, document) {
  const picture = document.createElement("img");
  picture.src = address;
  await picture.decode();
  picture.draggable = false; // dropped on ComfyUI's canvas, it would be opened as a workflow
  return picture;
}

export class Pictures {
  #load;
  #limit;
  #ready = new Map(); // by address, the one used last is the last
  #coming = new Map();

  /** @param {(address: string) => Promise<HTMLImageElement>} load @param {number} [limit] how many are kept */
  constructor(load, limit = LIMIT) {
    this.#load = load;
    this.#limit = limit;
  }

  /** The picture at once, or null. */
  ready(address) {
    const picture = this.#ready.get(address) ?? null;
    if (picture) this.#keep(address, picture);
    return picture;
  }

  /** The picture when it is ready, or null if it cannot be had. Those who ask while it is on its way share it. */
  async get(address) {
    const ready = this.ready(address);
    if (ready) return ready;
    if (!this.#coming.has(address)) {
      const coming = this.#load(address)
        .catch(() => null)
        .finally(() => this.#coming.delete(address));
      this.#coming.set(address, coming);
    }
    const picture = await this.#coming.get(address);
    if (picture) this.#keep(address, picture);
    return picture;
  }

  #keep(address, picture) {
    this.#ready.delete(address);
    this.#ready.set(address, picture);
    if (this.#ready.size > this.#limit) this.#ready.delete(this.#ready.keys().next().value);
  }
}
