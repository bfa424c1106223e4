/** The viewer in the full window: in the top layer of the page, where nothing zooms or clips it. */

import { make } from "./elements.mjs";

export class FullWindow {
  #root;
  #changed;

  /**
   * @param {Document} document
   * @param {HTMLElement} root what is shown in it, and goes back to where it was, before the element
   * @param {() => void} changed
   */
  constructor(document, root, changed) {
    this.#root = root;
    this.#changed = changed;
    this.element = make(document, "dialog", { ariaLabel: root.ariaLabel });
    this.element.addEventListener("cancel", (event) => event.preventDefault()); // Esc goes back one thing at a time
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
