/** Shows the comparison of two runs: the mode, the compared steps, the settings that differ. */

import { formatSigma } from "./caption.mjs";
import { button, create } from "./elements.mjs";
import { differences } from "./manifest.mjs";

const MODES = [
  ["wipe", "Wipe: drag over the picture"],
  ["side", "Side by side"],
  ["difference", "Difference, amplified four times"],
];
const LOCKS = [
  ["step", "step", "Both at the same step"],
  ["sigma", "σ", "Both at the same noise level"],
];

export class CompareBar {
  #document;
  #buttons = new Map();
  #tags;
  #list;
  #summary;

  /**
   * @param {Document} document
   * @param {(change: {compare?: string, lock?: string}) => void} choose
   */
  constructor(document, choose) {
    this.#document = document;
    const choice = (key, name, face, label) => {
      const chosen = button(document, face, label, () => choose({ [key]: name }));
      this.#buttons.set(`${key} ${name}`, chosen);
      return chosen;
    };
    const group = (label, buttons) => create(document, "div", { className: "choice", role: "group", ariaLabel: label }, ...buttons);
    this.#tags = ["A", "B"].map((name) => create(document, "span", { className: `tag ${name}` }));
    const modes = group("Compare by", MODES.map(([name, label]) => choice("compare", name, name, label)));
    const locks = group("Locked by", LOCKS.map(([name, face, label]) => choice("lock", name, face, label)));
    this.element = create(document, "div", { className: "comparing" }, this.#tags[0], modes, locks, this.#tags[1]);
    this.#summary = create(document, "summary");
    this.#list = create(document, "dl");
    this.differences = create(document, "details", { className: "differences", open: true }, this.#summary, this.#list);
  }

  /**
   * @param {import("./types.mjs").View} view
   * @param {import("./types.mjs").ShownStep[]} pair
   */
  show(view, pair) {
    const chosen = [`compare ${view.compare}`, `lock ${view.lock}`];
    for (const [key, choice] of this.#buttons) choice.ariaPressed = String(chosen.includes(key));
    pair.forEach(({ step }, i) => {
      const sigma = step?.sigma == null ? "" : ` · σ ${formatSigma(step.sigma)}`;
      this.#tags[i].replaceChildren(`${"AB"[i]} ${step?.index ?? "…"}`, create(this.#document, "span", { textContent: sigma }));
    });
    const [a, b] = pair.map(({ run }) => run.manifest);
    const rows = a && b ? differences(a, b) : [];
    const gain = view.compare === "difference" ? "difference ×4 · " : "";
    const count = rows.length === 1 ? "1 setting differs" : `${rows.length} settings differ`;
    this.#summary.textContent = `${gain}${!a || !b ? "…" : rows.length ? count : "the same settings"}`;
    const cell = (tag, text) => create(this.#document, tag, { textContent: text, title: text });
    this.#list.replaceChildren(...rows.flatMap((row) => [cell("dt", row.name), cell("dd", row.a), cell("dd", row.b)]));
  }
}
