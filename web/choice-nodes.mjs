/** Puts the pictures to choose from on the nodes Choose and Continue. */

import { Chooser, ChoiceSource } from "./chooser.mjs";
import { t } from "./language.mjs";
import { giveWorkflowId, nodePlaces } from "./node-place.mjs";

export const CHOICE_NODE = "SafelightChoose";
export const CHOICE_EVENT = "safelight.choice";

const WIDGET = "safelight_chooser";
const [WIDTH_PX, MIN_HEIGHT_PX] = [320, 220];

export class ChoiceNodes {
  #document;
  #address;
  #source;
  /** @type {Map<ComfyUI.Node, Chooser>} */ #choosers = new Map(); // by node, while it is in a graph

  /**
   * @param {Document} document
   * @param {(path: string) => string} address turns a path on the server into an address
   * @param {(path: string, options?: object) => Promise<Response>} request fetches a path with the key of this browser
   */
  constructor(document, address, request) {
    this.#document = document;
    this.#address = address;
    this.#source = new ChoiceSource(request);
  }

  /** Adds the pictures to a node. @param {ComfyUI.Node} node */
  add(node) {
    const source = this.#source;
    const chooser = new Chooser(this.#document, (...picture) => this.#address(source.picture(...picture)), (...answer) => source.answer(...answer));
    const widget = node.addDOMWidget(WIDGET, WIDGET, chooser.element, { serialize: false, hideOnZoom: false, getMinHeight: () => MIN_HEIGHT_PX });
    widget.serialize = false;
    widget.label = t("Pictures"); // shown in App mode
    widget.beforeQueued = () => giveWorkflowId(node);
    chooser.element.style.setProperty("--comfy-widget-min-height", String(MIN_HEIGHT_PX));
    chooser.element.dataset.captureWheel = "true";
    // Without this, a drag in it would move Vue nodes, and the canvas would get its keys.
    for (const name of ["pointerdown", "pointermove", "pointerup", "keydown"]) chooser.element.addEventListener(name, (event) => event.stopPropagation());
    const { onAdded, onRemoved } = node;
    node.onAdded = (...args) => {
      onAdded?.apply(node, args);
      this.#choosers.set(node, chooser);
      setTimeout(() => this.#refresh(node)); // once the graph is complete, and with it the node's place
    };
    node.onRemoved = (...args) => {
      onRemoved?.apply(node, args);
      this.#choosers.delete(node);
      chooser.show(null);
    };
    node.setSize([Math.max(node.computeSize()[0], WIDTH_PX), node.computeSize()[1] + MIN_HEIGHT_PX / 2]);
  }

  /** Asks the server what each node waits for. Call it after each `CHOICE_EVENT`, and when the page is connected again. */
  refresh() {
    for (const node of this.#choosers.keys()) this.#refresh(node);
  }

  /** @param {ComfyUI.Node} node */
  async #refresh(node) {
    const found = await Promise.all(nodePlaces(node).map((place) => this.#source.at(place)));
    this.#choosers.get(node)?.show(found.find(Boolean) ?? null);
  }
}
