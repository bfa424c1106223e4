/** Knows the decoders of each latent space, and how the node's list names them. */

import { later, t } from "./language.mjs";

/** What is offered for every model; the node stores the words that are the keys. @type {Record<string, string>} */
const WORDS = { auto: "auto", fast: "fast", fine: "fine", full: later("full VAE") };
const SEPARATOR = " · "; // of the parts of a description, of which the first is the short name

export class DecoderList {
  #request;
  #changed;
  /** @type {Map<string, {name: string, words: string}[] | null>} */ #spaces = new Map(); // by name of the space: its decoders; null while they are requested

  /**
   * @param {(path: string) => Promise<Response>} request fetches a path of ComfyUI's server
   * @param {() => void} changed called when the decoders of a space are known
   */
  constructor(request, changed) {
    this.#request = request;
    this.#changed = changed;
  }

  /** The values to offer for a latent space; null: the model is not known. @param {string | null} space @param {string} current */
  values(space, current) {
    const names = [...Object.keys(WORDS), ...this.#of(space).map(({ name }) => name)];
    return names.includes(current) ? names : [...names, current];
  }

  /** What the list shows for a value. @param {string | null} space @param {string} value */
  label(space, value) {
    return (WORDS[value] && t(WORDS[value])) ?? this.#of(space).find(({ name }) => name === value)?.words ?? value;
  }

  /** The same, as short as possible. @param {string | null} space @param {string} value */
  shortLabel(space, value) {
    return this.label(space, value).split(SEPARATOR)[0];
  }

  /** Reads the decoders again, as the user may have added files. */
  reset() {
    this.#spaces.clear();
  }

  /** @param {string | null} space */
  #of(space) {
    if (!space) return [];
    if (!this.#spaces.has(space)) this.#read(space);
    return this.#spaces.get(space) ?? [];
  }

  /** @param {string} space */
  async #read(space) {
    this.#spaces.set(space, null);
    try {
      const reply = await this.#request(`/safelight/decoders?space=${encodeURIComponent(space)}`);
      if (reply.ok) this.#spaces.set(space, await reply.json());
    } catch {
      return; // the words are offered, and all names go on working
    }
    this.#changed();
  }
}
