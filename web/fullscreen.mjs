/** Shows the viewer in the full window: in the page's top layer, where no parent zooms or clips it. */

import { create } from "./elements.mjs";

export class Fullscreen {
  #root;
  #changed;

  /**
   * @param {Document} document
   * @param {HTMLElement} root the element to show; on close it goes back in front of `element`
   * @param {() => void} changed called after each opening and closing
   */
  constructor(document, root, changed) {
    this.#root = root;
    this.#changed = changed;
    this.element = create(document, "dialog", { ariaLabel: root.ariaLabel });
    this.element.addEventListener("cancel", (event) => event.preventDefault()); // the viewer handles Esc itself
    this.element.addEventListener("close", () => {
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
    this.#root.focus();
    this.#changed();
  }
}
