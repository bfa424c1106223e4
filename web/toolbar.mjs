/** Shows the buttons over the picture. */

import { button, create, setButton } from "./elements.mjs";
import { later, plural, t } from "./language.mjs";

/**
 * @typedef {Pick<import("./types.mjs").Commands, "showBatch" | "oneToOne" | "smooth" | "latents" | "save" | "copy" | "openTab" | "lock" | "live" | "menu" | "shortcuts" | "fullscreen">} ToolCommands
 */

/** Buttons that need a single picture. */
const SINGLE_PICTURE = { copy: later("Copy this picture"), openTab: later("Open this picture in a tab") };

/** The words on the button that follows the newest step. */
const LIVE_WORDS = { live: later("live"), newest: later("newest"), locked: later("locked") };

export class Toolbar {
  #document;
  /** @type {Record<string, HTMLButtonElement>} */ #buttons = {};

  /** @param {Document} document @param {ToolCommands} commands of the viewer, by the names of the buttons */
  constructor(document, commands) {
    this.#document = document;
    /** @param {keyof ToolCommands} name @param {string} face */
    const tool = (name, face, label = "") => (this.#buttons[name] = button(document, face, label, () => commands[name]()));
    this.element = create(document, "div", { className: "tools fading", role: "toolbar", ariaLabel: t("Picture") });
    this.element.append(
      tool("showBatch", "grid", t("All pictures of the batch (Esc)")),
      tool("oneToOne", "1:1"),
      tool("smooth", "pixels"),
      tool("latents", "noise"),
      tool("save", "save"),
      tool("copy", "copy"),
      tool("openTab", "openTab"),
      tool("lock", "lock"),
      tool("menu", "more", t("More actions (menu key)")),
      tool("shortcuts", "?", t("Keyboard shortcuts (?)")),
      tool("fullscreen", "full"),
    );
    this.#buttons.menu.addEventListener("mousedown", (event) => event.preventDefault()); // an open menu closes when it loses the focus
    this.live = tool("live", "live");
    this.live.className = "live";
  }

  /**
   * @param {object} facts
   * @param {string} facts.item the selected item of a batch, such as `2 / 4`; empty: all items
   * @param {number} facts.count number of shown pictures
   * @param {boolean} facts.zoomed
   * @param {boolean} facts.smooth
   * @param {boolean} facts.both whether the step has pictures of the denoised and of the noisy latents
   * @param {boolean} facts.noisy
   * @param {boolean} facts.locked
   * @param {boolean} facts.still no step can arrive that would replace the shown one
   * @param {boolean} facts.fullscreen
   * @param {boolean} facts.shortcuts whether the list of shortcuts is shown
   * @param {boolean} facts.menu whether the menu is open
   */
  show({ item, count, zoomed, smooth, both, noisy, locked, still, fullscreen, shortcuts, menu }) {
    /** @param {string} name @param {string} face @param {string} label */
    const set = (name, face, label) => setButton(this.#document, this.#buttons[name], face, label);
    this.#buttons.showBatch.hidden = !item;
    this.#buttons.showBatch.dataset.of = item;
    set("oneToOne", zoomed ? t("fit") : "1:1", zoomed ? t("Fit (Z)") : t("One screen pixel per image pixel (Z)"));
    set("smooth", smooth ? "pixels" : "smooth", smooth ? t("Show pixels") : t("Enlarge smoothly"));
    set("latents", "noise", noisy ? t("Show the denoised latents (N)") : t("Show the noisy latents (N)"));
    this.#buttons.latents.ariaPressed = String(noisy);
    this.#buttons.latents.hidden = !both;
    set("save", "save", count > 1 ? plural(count, "Save this {count} picture (S)", "Save these {count} pictures (S)") : t("Save this picture (S)"));
    for (const [name, label] of Object.entries(SINGLE_PICTURE)) {
      set(name, name, count > 1 ? t("{action}: click one first", { action: t(label) }) : t(label));
      this.#buttons[name].disabled = count > 1;
    }
    set("lock", "lock", locked ? t("Unlock this step (L)") : t("Lock this step: new steps do not replace it (L)"));
    this.#buttons.lock.ariaPressed = String(locked);
    this.#buttons.lock.hidden = still;
    this.#buttons.shortcuts.ariaExpanded = String(shortcuts);
    this.#buttons.menu.ariaHasPopup = "menu";
    this.#buttons.menu.ariaExpanded = String(menu);
    set("fullscreen", fullscreen ? "window" : "full", fullscreen ? t("Leave the full window (F)") : t("Full window (F)"));
  }

  /**
   * Shows whether the view follows the newest step, on a button that changes that.
   *
   * @param {import("./navigation.mjs").Navigation} navigation
   * @param {import("./types.mjs").Run | undefined} newest run
   * @param {boolean} active whether the newest run still gets steps
   */
  showLive(navigation, newest, active) {
    const mode = navigation.locked ? "locked" : !navigation.live ? "held" : active ? "live" : "newest";
    const label = {
      locked: t("This step is locked; click to unlock (L)"),
      held: active ? t("To the newest step") : t("To the newest run"),
      live: t("The newest step is shown; click to lock it (L)"),
      newest: "",
    };
    this.live.dataset.is = mode;
    setButton(this.#document, this.live, t(LIVE_WORDS[mode === "held" ? (active ? "live" : "newest") : mode]), label[mode]);
    // Hidden where it has nothing to do: the strip leads to the newest step of a run that has ended.
    this.live.hidden = navigation.run === null || mode === "newest" || (mode === "held" && !active && navigation.run === newest?.id);
  }
}
