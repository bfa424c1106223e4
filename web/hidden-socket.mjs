/** Hides an input that is only a socket. Both renderers draw every socket of a node, so it is taken off the node. */

export class HiddenSocket {
  #node;
  #name;
  /**
   * @type {{at: number, slot: ComfyUI.Input, saved: object} | null} the socket, its place among the inputs, and its form in a saved workflow
   */
  #taken = null;

  /** @param {ComfyUI.Node} node @param {string} name of an optional input without a widget */
  constructor(node, name) {
    this.#node = node;
    this.#name = name;
    // A workflow is saved with the socket in its place: it stays the same, whether the socket is hidden or not.
    const { onSerialize } = node;
    node.onSerialize = (...args) => {
      onSerialize?.apply(node, args);
      if (this.#taken) args[0].inputs?.splice(this.#taken.at, 0, { ...this.#taken.saved });
    };
  }

  /** Hides the socket, unless it has a link, or shows it again. @param {boolean} hidden */
  setHidden(hidden) {
    if (hidden) this.#take();
    else this.#putBack();
  }

  #take() {
    const node = this.#node;
    const at = node.inputs.findIndex(({ name }) => name === this.#name);
    if (at < 0 || (node.isInputConnected?.(at) ?? node.inputs[at].link != null)) return;
    const [slot, saved] = [node.inputs[at], node.serialize().inputs?.[at] ?? {}];
    node.removeInput(at);
    this.#taken = { at, slot, saved };
  }

  #putBack() {
    if (!this.#taken) return;
    const { graph, inputs } = this.#node;
    const { at, slot } = this.#taken;
    this.#taken = null;
    inputs.splice(at, 0, slot);
    inputs.forEach(({ link }, i) => {
      const found = link == null ? null : graph?.getLink(link);
      if (found) found.target_slot = i;
    });
    this.#node.setDirtyCanvas(true, true);
  }
}
