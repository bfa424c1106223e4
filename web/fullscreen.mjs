/** Shows the viewer in the full window: in the page's top layer, where no parent zooms or clips it. */

import { create, windowOf } from "./elements.mjs";

/** Events that the page behind the full window must not get: it would zoom, move or change what the user cannot see. */
const HIDDEN_EVENTS = ["pointerdown", "pointermove", "pointerup", "mousedown", "mousemove", "mouseup", "click", "dblclick", "contextmenu"];
/**
 * Those that ComfyUI's Vue nodes take before any element inside them gets them, if they are of the middle button.
 *
 * @type {("pointerdown" | "pointermove" | "pointerup")[]}
 */
const CAPTURED_EVENTS = ["pointerdown", "pointermove", "pointerup"];
const MIDDLE_BUTTON = 1;
const MIDDLE_BUTTON_HELD = 4;

export class Fullscreen {
  #root;
  #window;
  #changed;

  /**
   * @param {Document} document
   * @param {HTMLElement} root the element to show; on close it goes back in front of `element`
   * @param {() => void} changed called after each opening and closing
   */
  constructor(document, root, changed) {
    this.#root = root;
    this.#window = windowOf(document);
    this.#changed = changed;
    this.element = create(document, "dialog", { ariaLabel: root.ariaLabel });
    this.element.addEventListener("cancel", (event) => event.preventDefault()); // the viewer handles Esc itself
    for (const name of HIDDEN_EVENTS) this.element.addEventListener(name, (event) => event.stopPropagation());
    // Shortcuts of the page with Ctrl, such as that which queues the workflow, still work.
    this.element.addEventListener("keydown", (event) => event.ctrlKey || event.metaKey || event.stopPropagation());
    this.element.addEventListener("close", () => {
      for (const name of CAPTURED_EVENTS) this.#window.removeEventListener(name, this.#capture, true);
      this.element.before(root);
      root.focus({ preventScroll: true });
      changed();
    });
  }

  get open() {
    return this.element.open;
  }

  toggle() {
    if (this.open) return this.element.close();
    this.element.append(this.#root);
    this.element.showModal();
    for (const name of CAPTURED_EVENTS) this.#window.addEventListener(name, this.#capture, true);
    this.#root.focus();
    this.#changed();
  }

  /** @param {PointerEvent} event */
  #capture = (event) => {
    const middle = event.button === MIDDLE_BUTTON || event.buttons & MIDDLE_BUTTON_HELD;
    if (middle && event.composedPath().includes(this.element)) event.stopImmediatePropagation();
  };
}
