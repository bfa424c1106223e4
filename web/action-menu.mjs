/** Shows the menu of what can be done with the picture on the screen. */

import { activeElementAround, create, targetOf } from "./elements.mjs";
import { t } from "./language.mjs";

/**
 * @typedef {object} Action an entry of the menu
 * @property {string} label begins with a verb
 * @property {string} [why] why it cannot be done now; shown in place of doing it. Absent: it can be done
 * @property {() => (string | void | Promise<string | void>)} run does it, and returns its result in words. An error
 *   says why it failed
 *
 * @typedef {(shown: import("./export.mjs").ShownPictures) => Action[]} Actions the entries for a picture, as a group of
 *   the menu; empty if there is none. `shown` has several addresses while a whole batch is on the screen
 */

/** @type {Record<string, ((at: number) => number) | undefined>} */
const MOVES = { ArrowDown: (at) => at + 1, ArrowUp: (at) => at - 1, Home: () => 0, End: () => -1 };

export class ActionMenu {
  #document;
  #groups;
  #notify;
  #changed;
  /** @type {HTMLElement | null} */ #back = null; // gets the focus when the menu closes

  /**
   * @param {Document} document
   * @param {Actions[]} groups of entries, in order
   * @param {(text: string) => void} notify shows a result to the user
   * @param {() => void} changed called when the menu was opened or closed
   */
  constructor(document, groups, notify, changed) {
    this.#document = document;
    this.#groups = groups;
    this.#notify = notify;
    this.#changed = changed;
    this.element = create(document, "div", { className: "menu", role: "menu", ariaLabel: t("Actions"), hidden: true });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("focusout", ({ relatedTarget }) => this.element.contains(/** @type {Node | null} */ (relatedTarget)) || this.close());
    for (const name of ["pointerdown", "dblclick", "wheel"]) this.element.addEventListener(name, (event) => event.stopPropagation());
  }

  get open() {
    return !this.element.hidden;
  }

  /**
   * Opens the menu, or closes it.
   *
   * @param {import("./export.mjs").ShownPictures | undefined} shown the picture on the screen
   * @param {HTMLElement} back gets the focus when the menu closes
   */
  toggle(shown, back) {
    if (this.open) return this.close();
    const groups = shown ? this.#groups.map((actions) => actions(shown)).filter(({ length }) => length) : [];
    if (!groups.length) return;
    const rows = groups.map((actions) => create(this.#document, "div", { role: "group" }, ...actions.map((action) => this.#entry(action))));
    this.element.replaceChildren(...rows);
    this.element.hidden = false;
    this.#back = back;
    this.#entries[0].focus();
    this.#changed();
  }

  close() {
    if (!this.open) return;
    const focused = this.element.contains(activeElementAround(this.element));
    this.element.hidden = true;
    if (focused) this.#back?.focus({ preventScroll: true });
    this.#changed();
  }

  get #entries() {
    return [.../** @type {NodeListOf<HTMLElement>} */ (this.element.querySelectorAll("[role=menuitem]"))];
  }

  /** @param {Action} action */
  #entry({ label, why, run }) {
    const entry = create(this.#document, "button", { type: "button", role: "menuitem", tabIndex: -1, textContent: label });
    // Not `disabled`: the keyboard must reach it, to read the reason.
    if (why) Object.assign(entry, { ariaDisabled: "true", title: why });
    entry.addEventListener("click", async (event) => {
      event.stopPropagation();
      this.close();
      if (why) return this.#notify(why);
      try {
        const result = await run();
        if (result) this.#notify(result);
      } catch (error) {
        this.#notify(/** @type {Error} */ (error).message);
      }
    });
    return entry;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const entries = this.#entries;
    const at = entries.indexOf(targetOf(event));
    const move = MOVES[event.key];
    if (move) entries.at(move(at) % entries.length)?.focus();
    else if (event.key === "Escape" || event.key === "Tab") this.close();
    const used = move || event.key === "Escape" || event.key === "Tab";
    if (used) event.preventDefault();
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // the keys of the viewer and of its page
  }
}
