/** The buttons over the picture. */

import { button, make, reface } from "./elements.mjs";

/** For one picture. */
const FOR_ONE = { copy: "Copy this picture", openTab: "Open this picture in a tab" };

export class Tools {
  #document;
  #buttons = {};

  /**
   * @param {Document} document
   * @param {Record<"allOfBatch" | "oneToOne" | "smooth" | "save" | "copy" | "openTab" | "hold" | "keys" | "full" | "live", () => void>} does
   */
  constructor(document, does) {
    this.#document = document;
    const tool = (name, face, say = "") => (this.#buttons[name] = button(document, face, say, () => does[name]()));
    this.element = make(document, "div", { className: "tools fading", role: "toolbar", ariaLabel: "Picture" });
    this.element.append(
      tool("allOfBatch", "grid", "All pictures of the batch (Esc)"),
      tool("oneToOne", "1:1"),
      tool("smooth", "pixels"),
      tool("save", "save"),
      tool("copy", "copy"),
      tool("openTab", "openTab"),
      tool("hold", "lock"),
      tool("keys", "?", "Keys (?)"),
      tool("full", "full"),
    );
    this.live = tool("live", "live");
    this.live.className = "live";
  }

  /**
   * @param {object} facts
   * @param {string} facts.which of a batch's pictures is looked at by itself, `2 / 4`; empty: all of them
   * @param {number} facts.count of pictures that are looked at
   * @param {boolean} facts.zoomed
   * @param {boolean} facts.smooth
   * @param {boolean} facts.locked
   * @param {boolean} facts.still nothing comes that a step could be held against
   * @param {boolean} facts.full
   * @param {boolean} facts.keys whether the list of them is shown
   */
  show({ which, count, zoomed, smooth, locked, still, full, keys }) {
    const { allOfBatch, hold, keys: help } = this.#buttons;
    const face = (name, ...faced) => reface(this.#document, this.#buttons[name], ...faced);
    allOfBatch.hidden = !which;
    allOfBatch.dataset.of = which;
    face("oneToOne", zoomed ? "fit" : "1:1", zoomed ? "Fit (Z)" : "One to one (Z)");
    face("smooth", smooth ? "pixels" : "smooth", smooth ? "Show pixels" : "Enlarge smoothly");
    face("save", "save", count > 1 ? `Save these ${count} pictures (S)` : "Save this picture (S)");
    for (const [name, say] of Object.entries(FOR_ONE)) {
      face(name, name, count > 1 ? `${say}: click one first` : say);
      this.#buttons[name].disabled = count > 1;
    }
    face("hold", "lock", locked ? "Let go of this step (L)" : "Hold this step, whatever comes (L)");
    hold.ariaPressed = String(locked);
    hold.hidden = still;
    help.ariaExpanded = String(keys);
    face("full", full ? "window" : "full", full ? "Back to the window (F)" : "Full window (F)");
  }

  /**
   * @param {import("./navigation.mjs").Travel} travel
   * @param {import("./types.mjs").Run | undefined} newest run
   * @param {boolean} goesOn whether it does
   */
  showLive(travel, newest, goesOn) {
    const is = travel.locked ? "locked" : !travel.live ? "held" : goesOn ? "live" : "newest";
    const say = {
      locked: "Held, whatever comes; let go (L)",
      held: goesOn ? "To the newest step" : "To the newest run",
      live: "The newest step is shown; hold it (L)",
      newest: "",
    };
    this.live.dataset.is = is;
    reface(this.#document, this.live, travel.locked ? "held" : goesOn ? "live" : "newest", say[is]);
    // Where nothing comes there is nothing to go back to that the strip does not have.
    this.live.hidden = travel.run === null || is === "newest" || (is === "held" && !goesOn && travel.run === newest?.id);
  }
}
