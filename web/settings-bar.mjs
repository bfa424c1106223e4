/** Shows the node's settings in one line below the viewer. A click or a key unfolds them. */

import { button, create, setButton } from "./elements.mjs";
import { t } from "./language.mjs";

export const BAR_HEIGHT_PX = 28;

const STYLE = `
.settings { display: var(--safelight-settings, none); flex: none; align-items: center; gap: 4px; height: ${BAR_HEIGHT_PX}px; padding: 0 6px 2px 4px; border-top: 1px solid var(--line); }
dialog .settings, :host([data-far]) .settings { display: none; }
.settings button { color: var(--quiet); font-size: 12px; }
.settings button:hover { color: var(--text); background: var(--line); }
.settings .fold { display: flex; flex: 0 1 auto; min-width: 0; gap: 4px; align-items: center; padding: 0 6px 0 4px; }
.settings .fold span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.settings .fold::before { content: ""; flex: none; width: 5px; height: 5px; margin: 0 4px 0 3px; border: solid currentColor; border-width: 0 1.4px 1.4px 0; transform: rotate(-45deg); }
.settings .fold:dir(rtl)::before { transform: rotate(135deg); }
.settings .fold[aria-expanded="true"]::before { transform: rotate(45deg); margin-top: -3px; }
.settings .switch { display: flex; flex: 0 1000 auto; gap: 6px; align-items: center; min-width: 30px; margin-inline-start: auto; padding: 0 4px 0 6px; white-space: nowrap; }
.settings .switch .word { min-width: 0; overflow: hidden; } /* gives way to the words of the settings */
.settings .switch::after { content: ""; flex: none; width: 20px; height: 12px; border-radius: 6px; box-shadow: inset 0 0 0 1.4px currentColor; background: radial-gradient(circle at 6px 50%, currentColor 3px, transparent 3.5px); }
.settings .switch[aria-checked="true"] { color: var(--text); }
.settings .switch[aria-checked="true"]::after { color: var(--accent); background: radial-gradient(circle at 14px 50%, currentColor 3px, transparent 3.5px); }
`;

export class SettingsBar {
  element;
  #document;
  #fold;
  #words;
  #switch;

  /**
   * @param {Document} document
   * @param {object} commands
   * @param {(() => void) | null} commands.toggleFold folds or unfolds the settings; null if they cannot be folded
   * @param {string} commands.switchLabel @param {(() => void) | null} commands.toggleSwitch null: there is no switch
   */
  constructor(document, { toggleFold, switchLabel, toggleSwitch }) {
    this.#document = document;
    this.#words = create(document, "span");
    this.#fold = button(document, "", "", () => toggleFold?.(), "fold");
    this.#fold.replaceChildren(this.#words);
    this.#fold.hidden = !toggleFold;
    this.#switch = button(document, "", switchLabel, () => toggleSwitch?.(), "switch");
    this.#switch.replaceChildren(create(document, "span", { className: "word", textContent: t("all samplers") }));
    this.#switch.role = "switch";
    this.#switch.hidden = !toggleSwitch;
    const style = create(document, "style", { textContent: STYLE });
    this.element = create(document, "div", { className: "settings", role: "group", ariaLabel: t("Settings") }, style, this.#fold, this.#switch);
  }

  /** @param {string} words of the settings @param {boolean} open whether the settings are unfolded */
  show(words, open) {
    this.#words.textContent = words;
    setButton(this.#document, this.#fold, "", open ? t("Hide the settings: {words}", { words }) : t("Change the settings: {words}", { words }));
    this.#fold.ariaExpanded = String(open);
  }

  /** @param {boolean} on */
  setSwitch(on) {
    this.#switch.ariaChecked = String(on);
  }
}
