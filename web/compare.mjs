/** Shows the comparison of two pictures: the mode, the compared steps, the settings that differ. */

import { formatSigma } from "./caption.mjs";
import { button, create } from "./elements.mjs";
import { later, plural, t } from "./language.mjs";
import { differences, stepLayout } from "./manifest.mjs";

/** @typedef {import("./types.mjs").View} View @typedef {import("./types.mjs").ShownStep} ShownStep */

/** @type {[name: View["compare"], label: string][]} */
const MODES = [
  ["wipe", later("Wipe: drag over the picture")],
  ["side", later("Side by side; in a narrow viewer one above the other")],
  ["difference", later("Difference, amplified four times")],
];
/** @type {[name: View["lock"], face: string, label: string][]} */
const LOCKS = [
  ["step", later("step"), later("Both at the same step")],
  ["sigma", "σ", later("Both at the same noise level")],
];

export class CompareBar {
  #document;
  /** @type {Map<string, HTMLButtonElement>} */ #buttons = new Map();
  #pin;
  #tags;
  #list;
  #summary;

  /**
   * @param {Document} document
   * @param {object} commands
   * @param {(change: Partial<View>) => void} commands.choose
   * @param {() => void} commands.pin keeps B at its picture, or lets it follow A again
   */
  constructor(document, { choose, pin }) {
    this.#document = document;
    /** @param {"compare" | "lock"} key @param {string} name @param {string} face @param {string} label */
    const choice = (key, name, face, label, chooseIt = () => choose({ [key]: name })) => {
      const chosen = button(document, face, label, chooseIt);
      this.#buttons.set(`${key} ${name}`, chosen);
      return chosen;
    };
    /** @param {string} label @param {HTMLElement[]} buttons */
    const group = (label, buttons) => create(document, "div", { className: "choice", role: "group", ariaLabel: label }, ...buttons);
    this.#tags = ["A", "B"].map((name) => create(document, "span", { className: `tag ${name}` }));
    const modes = group(t("Compare by"), MODES.map(([name, label]) => choice("compare", name, name, t(label))));
    /** @param {View["lock"]} name */
    const lockTo = (name) => () => {
      if (this.#pin.ariaPressed === "true") pin();
      choose({ lock: name });
    };
    this.#pin = choice("lock", "pin", "pin", t("B stays at its picture (B)"), pin);
    const locks = group(t("Locked by"), [...LOCKS.map(([name, face, label]) => choice("lock", name, t(face), t(label), lockTo(name))), this.#pin]);
    this.element = create(document, "div", { className: "comparing" }, this.#tags[0], modes, locks, this.#tags[1]);
    this.#summary = create(document, "summary");
    this.#list = create(document, "dl");
    this.differences = create(document, "details", { className: "differences", open: true }, this.#summary, this.#list);
  }

  /**
   * @param {View} view
   * @param {ShownStep[]} pair
   * @param {boolean} pinned whether B stays at its picture
   */
  show(view, pair, pinned) {
    const [a, b] = pair;
    const sameRun = a.run.id === b.run.id;
    const chosen = [`compare ${view.compare}`, pinned ? "lock pin" : `lock ${view.lock}`];
    for (const [key, choice] of this.#buttons) choice.ariaPressed = String(chosen.includes(key));
    for (const [key, choice] of this.#buttons) choice.disabled = sameRun && LOCKS.some(([name]) => key === `lock ${name}`); // its pictures would be the same
    pair.forEach((shown, i) => {
      const { step } = shown;
      const sigma = step?.sigma == null ? "" : ` · σ ${formatSigma(step.sigma)}`;
      this.#tags[i].replaceChildren(`${"AB"[i]} ${step?.index ?? "…"}${itemLabel(shown)}`, create(this.#document, "span", { textContent: sigma }));
    });
    const rows = a.run.manifest && b.run.manifest ? differences(a.run.manifest, b.run.manifest) : [];
    const gain = view.compare === "difference" ? t("difference ×4") : "";
    this.#summary.textContent = [gain, summary(a, b, rows.length)].filter(Boolean).join(" · ");
    /** @param {"dt" | "dd"} tag @param {string} text */
    const cell = (tag, text) => create(this.#document, tag, { textContent: text, title: text });
    this.#list.replaceChildren(...rows.flatMap((row) => [cell("dt", t(row.name)), cell("dd", row.a), cell("dd", row.b)]));
  }
}

/** The item of a batch, such as ` · 2 / 4`; empty if all are shown, or if there is no batch. @param {ShownStep} shown */
function itemLabel({ run, step, item }) {
  const { items } = step ? stepLayout(run.manifest, step) : { items: 1 };
  return item == null || item >= items || items < 2 ? "" : ` · ${item + 1} / ${items}`;
}

/** What differs between two pictures. @param {ShownStep} a @param {ShownStep} b @param {number} count of settings that differ */
function summary(a, b, count) {
  if (a.run.id === b.run.id) {
    if (a.step?.index !== b.step?.index) return t("two steps of this run");
    return a.item === b.item ? t("the same picture; go to another one") : t("two pictures of this batch");
  }
  if (!a.run.manifest || !b.run.manifest) return "…";
  if (count === 0) return t("the same settings");
  return plural(count, "{count} setting differs", "{count} settings differ");
}
