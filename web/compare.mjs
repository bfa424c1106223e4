/** What stands over two runs that are compared: how, by what, and in which settings they differ. */

import { shortSigma } from "./caption.mjs";
import { button, make } from "./elements.mjs";
import { differences } from "./manifest.mjs";

const MODES = [
  ["wipe", "Wipe: drag over the picture"],
  ["side", "Side by side"],
  ["difference", "Difference, made four times as strong"],
];
const LOCKS = [
  ["step", "step", "Both at the same step"],
  ["sigma", "σ", "Both at the same noise"],
];

export class Compare {
  #document;
  #buttons = new Map();
  #tags;
  #table;
  #list;
  #summary;

  /**
   * @param {Document} document
   * @param {(change: {compare?: string, lock?: string}) => void} choose
   */
  constructor(document, choose) {
    this.#document = document;
    const part = (key, name, what, say) => {
      const made = button(document, what, say, () => choose({ [key]: name }));
      this.#buttons.set(`${key} ${name}`, made);
      return made;
    };
    const group = (label, parts) => make(document, "div", { className: "choice", role: "group", ariaLabel: label }, ...parts);
    this.#tags = ["A", "B"].map((name) => make(document, "span", { className: `tag ${name}` }));
    const modes = group("Compare by", MODES.map(([name, say]) => part("compare", name, name, say)));
    const locks = group("Locked by", LOCKS.map(([name, what, say]) => part("lock", name, what, say)));
    this.element = make(document, "div", { className: "comparing" }, this.#tags[0], modes, locks, this.#tags[1]);
    this.#summary = make(document, "summary");
    this.#list = make(document, "dl");
    this.#table = make(document, "details", { className: "differences", open: true }, this.#summary, this.#list);
    this.list = this.#table;
  }

  /**
   * @param {import("./types.mjs").View} view
   * @param {import("./types.mjs").Shown[]} pair
   */
  show(view, pair) {
    for (const [key, made] of this.#buttons) {
      made.ariaPressed = String([`compare ${view.compare}`, `lock ${view.lock}`].includes(key));
    }
    pair.forEach(({ step }, i) => {
      const sigma = step?.sigma == null ? "" : ` · σ ${shortSigma(step.sigma)}`;
      this.#tags[i].replaceChildren(`${"AB"[i]} ${step?.index ?? "…"}`, make(this.#document, "span", { textContent: sigma }));
    });
    const [a, b] = pair.map(({ run }) => run.manifest);
    const rows = a && b ? differences(a, b) : [];
    const gain = view.compare === "difference" ? "difference ×4 · " : "";
    const count = rows.length === 1 ? "1 setting differs" : `${rows.length} settings differ`;
    this.#summary.textContent = `${gain}${!a || !b ? "…" : rows.length ? count : "the same settings"}`;
    const cell = (tag, text, title = text) => make(this.#document, tag, { textContent: text, title });
    this.#list.replaceChildren(...rows.flatMap((row) => [cell("dt", row.name), cell("dd", row.a), cell("dd", row.b)]));
  }
}
