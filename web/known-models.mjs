/** Remembers what the latents of a model are, so that a new node with this model knows it before its first run. */

const KEY = "Safelight.Models";
const MAX_MODELS = 100;
const MODEL_FILE = /\.(safetensors|sft|gguf|ckpt|pt|pth|bin)$/i;

/** @typedef {{space: string | null, frames: number | null}} ModelFacts latent space, and frames of the newest latents */

export class KnownModels {
  #storage;

  /** @param {() => Storage} storage of the browser; it may be forbidden */
  constructor(storage) {
    this.#storage = storage;
  }

  /** What is known of a model; null if nothing is. @param {string} model of `modelKey` @returns {ModelFacts | null} */
  get(model) {
    const { space = null, frames = null } = (model && this.#read()[model]) || {};
    return typeof space === "string" ? { space, frames } : null;
  }

  /** @param {string} model of `modelKey` @param {ModelFacts} facts */
  set(model, facts) {
    if (!model || !facts.space) return;
    const { [model]: before, ...others } = this.#read();
    if (JSON.stringify(before) === JSON.stringify(facts)) return;
    const newest = [...Object.entries(others).slice(1 - MAX_MODELS), [model, facts]];
    try {
      this.#storage().setItem(KEY, JSON.stringify(Object.fromEntries(newest)));
    } catch {} // full or forbidden: then only a run tells what its model is
  }

  #read() {
    try {
      const read = JSON.parse(this.#storage().getItem(KEY) ?? "{}");
      return read && typeof read === "object" && !Array.isArray(read) ? read : {};
    } catch {
      return {};
    }
  }
}

/** A name for a model: the files that the nodes before a node name. Empty if there are none. @param {unknown[]} values of these nodes */
export function modelKey(values) {
  return values.filter((value) => typeof value === "string" && MODEL_FILE.test(value)).join(" + ");
}
