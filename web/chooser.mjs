/** Shows the pictures of a batch to choose from, and sends the answer. */

import { create, targetOf } from "./elements.mjs";
import { later, t, textDirection } from "./language.mjs";
import { sentText } from "./sent-texts.mjs";

const TICK_MS = 1000;

export const CHOOSER_STYLE = `
:host { display: block; box-sizing: border-box; width: 100%; height: 100%; min-height: 160px; }
* { box-sizing: border-box; margin: 0; }
.chooser { display: flex; flex-direction: column; gap: 6px; height: 100%; padding: 6px; border-radius: 8px; background: var(--comfy-input-bg, #17181a); color: var(--input-text, #dcddde); font: 12px/1.45 var(--font-inter, Inter), system-ui, sans-serif; }
.idle { margin: auto; padding: 0 16px; text-align: center; opacity: 0.8; }
.items { flex: 1; min-height: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 6px; overflow-y: auto; align-content: start; }
.item { all: unset; position: relative; display: block; cursor: pointer; border-radius: 6px; overflow: hidden; box-shadow: inset 0 0 0 1px rgb(255 255 255 / 0.1); }
.item img { display: block; width: 100%; opacity: 0.55; }
.item[aria-pressed="true"] img { opacity: 1; }
.item[aria-pressed="true"]::after { content: ""; position: absolute; inset: 0; border-radius: 6px; box-shadow: inset 0 0 0 3px #ff8a3d; }
.item:focus-visible { outline: 2px solid #ff8a3d; outline-offset: 1px; }
.number { position: absolute; inset-inline-start: 4px; top: 3px; z-index: 1; padding: 0 6px; border-radius: 6px; background: rgb(18 18 20 / 0.8); color: #fff; }
.bar { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.left { flex: 1; min-width: 8ch; }
.bar button { all: unset; padding: 3px 10px; border-radius: 6px; cursor: pointer; background: color-mix(in srgb, currentColor 14%, transparent); }
.bar button.go { background: #ff8a3d; color: #17181a; font-weight: 600; }
.bar button:focus-visible { outline: 2px solid currentColor; outline-offset: 1px; }
[hidden] { display: none !important; }
`;

const IDLE = later("When the run gets here, you choose from the pictures of the batch. Only the chosen ones go on.");

/**
 * @typedef {{choice: string, count: number, remaining_s: number}} Choice a batch that waits for an answer: its id, the number of its pictures
 */

export class Chooser {
  #document;
  #picture;
  #answer;
  #idle;
  #items;
  #bar;
  #left;
  #go;
  /** @type {Choice | null} */ #choice = null;
  /** @type {Set<number>} */ #chosen = new Set();
  #endMs = 0;
  /** @type {number | undefined} */ #timer;

  /**
   * @param {Document} document
   * @param {(choice: string, item: number) => string} picture an address
   * @param {(choice: string, chosen: number[]) => Promise<string>} answer sends the answer; returns an error in words, or nothing
   */
  constructor(document, picture, answer) {
    this.#document = document;
    this.#picture = picture;
    this.#answer = answer;
    this.#idle = create(document, "p", { className: "idle", textContent: t(IDLE) });
    this.#items = create(document, "div", { className: "items", role: "group", ariaLabel: t("Pictures to choose from"), hidden: true });
    this.#left = create(document, "span", { className: "left", role: "status" });
    /** @param {string} text @param {() => void} run */
    const button = (text, run, className = "") => {
      const created = create(document, "button", { type: "button", textContent: text, className });
      created.addEventListener("click", run);
      return created;
    };
    this.#go = button("", () => this.#send(), "go");
    this.#bar = create(document, "div", { className: "bar", hidden: true }, this.#left);
    this.#bar.append(button(t("All"), () => this.#select((_, i) => i)), button(t("None"), () => this.#select(() => null)), this.#go);
    /** Fills its parent. @type {HTMLElement} */
    this.element = create(document, "div", { dir: textDirection() });
    const panel = create(document, "div", { className: "chooser" }, this.#idle, this.#items, this.#bar);
    panel.addEventListener("keydown", (event) => this.#key(event));
    this.element.attachShadow({ mode: "open" }).append(create(document, "style", { textContent: CHOOSER_STYLE }), panel);
  }

  /** Shows a choice, or none. @param {Choice | null} choice */
  show(choice) {
    if (choice?.choice === this.#choice?.choice) return;
    this.#choice = choice;
    this.#chosen.clear();
    clearInterval(this.#timer);
    this.#items.replaceChildren(...(choice ? Array.from({ length: choice.count }, (_, item) => this.#item(choice, item)) : []));
    this.#items.hidden = this.#bar.hidden = !choice;
    this.#idle.hidden = Boolean(choice);
    this.#idle.textContent = t(IDLE);
    if (!choice) return;
    this.#endMs = Date.now() + choice.remaining_s * 1000;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#update();
  }

  get #buttons() {
    return /** @type {HTMLElement[]} */ ([...this.#items.children]);
  }

  /** @param {Choice} choice @param {number} item */
  #item({ choice }, item) {
    const number = create(this.#document, "span", { className: "number", textContent: String(item + 1) });
    const img = create(this.#document, "img", { src: this.#picture(choice, item), alt: "", draggable: false });
    const button = create(this.#document, "button", { type: "button", className: "item", ariaLabel: t("Picture {number}", { number: item + 1 }), ariaPressed: "false" }, number, img);
    button.addEventListener("click", () => this.#toggle(item));
    return button;
  }

  /** @param {number} item */
  #toggle(item) {
    if (!this.#chosen.delete(item)) this.#chosen.add(item);
    this.#update();
  }

  /** @param {(button: HTMLElement, item: number) => number | null} itemOf */
  #select(itemOf) {
    this.#chosen = new Set(this.#buttons.map(itemOf).filter((item) => item !== null));
    this.#update();
  }

  #update() {
    this.#buttons.forEach((button, item) => (button.ariaPressed = String(this.#chosen.has(item))));
    const { size } = this.#chosen;
    this.#go.textContent = size ? t("Go on with {count}", { count: size }) : t("Go on with none");
    this.#tick();
  }

  #tick() {
    const left = Math.max(0, Math.round((this.#endMs - Date.now()) / 1000));
    this.#left.textContent = t("{time} left", { time: `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` });
    if (!left) clearInterval(this.#timer);
  }

  async #send() {
    if (!this.#choice) return;
    const error = await this.#answer(this.#choice.choice, [...this.#chosen].sort((a, b) => a - b));
    if (error) this.#left.textContent = error;
    else this.show(null);
  }

  /** Digits toggle pictures, arrows move between them. Enter and Space are the buttons' own. @param {KeyboardEvent} event */
  #key(event) {
    if (!this.#choice || event.ctrlKey || event.metaKey || event.altKey) return;
    const buttons = this.#buttons;
    const at = buttons.indexOf(targetOf(event));
    const step = Number(event.key === "ArrowRight") - Number(event.key === "ArrowLeft");
    const digit = /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : null;
    if (digit !== null && digit < buttons.length) this.#toggle(digit);
    else if (step && at >= 0) buttons[(at + step + buttons.length) % buttons.length].focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/** Talks to ComfyUI's server about the choices that prompts of this browser wait for. */
export class ChoiceSource {
  #request;

  /**
   * @param {(path: string, options?: {method: string, body: string}) => Promise<Response>} request fetches a path with the key of this browser
   */
  constructor(request) {
    this.#request = request;
  }

  /** The choice that a node waits for; null if it waits for none. @param {import("./node-place.mjs").Place} place */
  async at({ workflow, node }) {
    try {
      const reply = await this.#request(`/safelight/choices?${new URLSearchParams({ workflow, node })}`);
      return reply.ok ? ((await reply.json())[0] ?? null) : null;
    } catch {
      return null; // the next event says it again
    }
  }

  /** @param {string} choice @param {number} item */
  picture(choice, item) {
    return `/safelight/choices/${encodeURIComponent(choice)}/${item}.jpg`;
  }

  /** Sends an answer. Returns an error in words, or nothing. @param {string} choice @param {number[]} chosen */
  async answer(choice, chosen) {
    try {
      const reply = await this.#request(`/safelight/choices/${encodeURIComponent(choice)}`, { method: "POST", body: JSON.stringify({ chosen }) });
      return reply.ok ? "" : sentText((await reply.json()).error);
    } catch {
      return t("The server cannot be reached. Try again.");
    }
  }
}
