/** Fills the tiles of a library's grid. */

import { button, create, icon } from "./elements.mjs";
import { t } from "./language.mjs";
import { firstWords, settingsLabel, shortWhen, spokenLabel, stateLabel, tooltip } from "./library-entry.mjs";

/** @typedef {import("./library-entry.mjs").Entry} Entry */

/**
 * @typedef {object} TileParts the parts of a tile, and the entry that it shows
 * @property {HTMLElement} when @property {HTMLElement} words @property {HTMLImageElement} image
 * @property {HTMLElement} mark @property {HTMLElement} badge @property {HTMLElement} noted
 * @property {Entry} entry
 */

export class LibraryTiles {
  #document;
  #source;
  #star;
  /** @type {WeakMap<HTMLElement, TileParts>} */ #tiles = new WeakMap();

  /**
   * @param {Document} document
   * @param {import("./library-source.mjs").Runs} source
   * @param {(entry: Entry) => void} star gives an entry a star, or takes it away
   */
  constructor(document, source, star) {
    this.#document = document;
    this.#source = source;
    this.#star = star;
  }

  /**
   * Puts an entry into a tile, which may show another one.
   *
   * @param {HTMLElement} tile @param {Entry} entry @param {boolean} isMarked whether it waits for a comparison
   */
  fill(tile, entry, isMarked) {
    const parts = this.#tiles.get(tile) ?? this.#newParts(tile, entry);
    this.#tiles.set(tile, parts);
    parts.entry = entry;
    tile.title = tooltip(entry);
    tile.ariaLabel = spokenLabel(entry);
    tile.classList.toggle("marked", isMarked);
    parts.when.textContent = shortWhen(entry) || t("Unknown date");
    parts.words.textContent = firstWords(entry) || settingsLabel(entry) || entry.folder || "";
    parts.badge.textContent = isMarked ? t("compare with …") : stateLabel(entry) || (entry.live ? t("not saved") : "");
    parts.noted.hidden = !entry.note;
    this.#showStar(parts.mark, entry);
    showPicture(parts.image, this.#source.small(entry) ?? "");
  }

  /** @param {HTMLElement} mark @param {Entry} entry */
  #showStar(mark, { star }) {
    const canChange = Boolean(this.#source.act);
    mark.hidden = !canChange && !star;
    mark.ariaPressed = String(star);
    mark.title = mark.ariaLabel = !canChange ? t("Starred") : star ? t("Take the star away") : t("Give this run a star");
  }

  /** @param {HTMLElement} tile @param {Entry} entry @returns {TileParts} */
  #newParts(tile, entry) {
    const document = this.#document;
    const image = create(document, "img", { alt: "", decoding: "async", draggable: false });
    image.addEventListener("error", () => (image.hidden = true));
    const badge = create(document, "span", { className: "badge" });
    const noted = create(document, "span", { className: "noted" }, icon(document, "note"));
    const mark = button(document, "star", t("Star"), () => this.#star(parts.entry), "mark");
    mark.tabIndex = -1; // the key S gives a star to the current tile
    const when = create(document, "span", { className: "line when" });
    const words = create(document, "span", { className: "line words" });
    tile.append(create(document, "div", { className: "picture" }, image, noted, badge), mark, when, words);
    const parts = { when, words, image, mark, badge, noted, entry };
    return parts;
  }
}

/** @param {HTMLImageElement} image @param {string} address */
function showPicture(image, address) {
  if (image.dataset.of === address) return;
  image.dataset.of = address;
  image.hidden = !address;
  if (address) image.src = address;
  else image.removeAttribute("src");
}
