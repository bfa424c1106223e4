/** Knows which samplers are watched now: their own previews would show the same steps a second time. */

const MAX_WATCHED = 50; // a run whose end is never reported
const NO_NODE = "2147483647"; // a valid id that no node has

/** A preview of ComfyUI that no node shows, as it names none. @param {object} preview */
export function withoutNode(preview) {
  return { ...preview, nodeId: NO_NODE, displayNodeId: NO_NODE };
}

export class WatchedSamplers {
  /** @type {Map<string, string>} */ #samplers = new Map(); // by run: id of its sampler

  /** Notes an event of a run. @param {{run: string, state: string, sampler?: string | null}} event */
  receive({ run, state, sampler }) {
    if (!run) return;
    this.#samplers.delete(run);
    if (state !== "running" || sampler == null) return;
    this.#samplers.set(run, String(sampler));
    const [oldest] = this.#samplers.keys();
    if (this.#samplers.size > MAX_WATCHED) this.#samplers.delete(oldest);
  }

  /** Whether a preview that ComfyUI sends is of a watched sampler. @param {{nodeId?: unknown, displayNodeId?: unknown}} preview */
  has({ nodeId, displayNodeId } = {}) {
    const ids = [nodeId, displayNodeId].map(String);
    return [...this.#samplers.values()].some((sampler) => ids.includes(sampler));
  }
}
