/** Shows a long list as a grid of tiles, of which only those near the visible part exist. */

import { create, targetOf, windowOf } from "./elements.mjs";

const MIN_TILE_PX = 116;
const GAP_PX = 6;
const CAPTION_PX = 38;
const ROWS_AROUND = 2; // that exist above and below the visible part

let grids = 0; // ids of tiles differ between two grids

/**
 * The layout of a grid.
 *
 * @param {number} width of the grid in pixels @param {number} count of tiles
 */
export function gridLayout(width, count) {
  const columns = Math.max(1, Math.floor((width + GAP_PX) / (MIN_TILE_PX + GAP_PX)));
  const tile = Math.max(1, Math.floor((width - GAP_PX * (columns - 1)) / columns));
  const row = tile + CAPTION_PX + GAP_PX;
  const rows = Math.ceil(count / columns);
  return { columns, tile, row, rows, height: Math.max(0, rows * row - GAP_PX) };
}

/**
 * The first and the last row near the visible part.
 *
 * @param {Pick<ReturnType<typeof gridLayout>, "row" | "rows">} layout
 * @param {number} top of the visible part @param {number} height
 */
export function rowsNear({ row, rows }, top, height) {
  const first = Math.max(0, Math.floor(top / row) - ROWS_AROUND);
  const last = Math.min(rows - 1, Math.floor((top + height) / row) + ROWS_AROUND);
  return { first, last };
}

/** @param {Element} row */
const tilesOf = (row) => /** @type {HTMLElement[]} */ ([...row.children]);

/**
 * The tile that a key moves to from `at`; null for another key.
 *
 * @param {string} key @param {number} at @param {number} count of tiles @param {number} columns @param {number} rowsOnScreen
 */
export function tileAfterKey(key, at, count, columns, rowsOnScreen) {
  /** @type {Record<string, number>} */
  const moves = {
    ArrowRight: at + 1,
    ArrowLeft: at - 1,
    ArrowDown: at + columns < count || Math.floor(at / columns) === Math.floor((count - 1) / columns) ? at + columns : count - 1,
    ArrowUp: at - columns,
    PageDown: at + columns * rowsOnScreen,
    PageUp: at - columns * rowsOnScreen,
    Home: 0,
    End: count - 1,
  };
  if (!Object.hasOwn(moves, key) || !count) return null;
  const to = moves[key];
  if (key === "ArrowDown" && to >= count) return at;
  if (key === "ArrowUp" && to < 0) return at;
  return Math.min(Math.max(to, 0), count - 1);
}

/** @template {{id: string}} Item */
export class VirtualGrid {
  #document;
  #content;
  #fill;
  #prefix = `tile-${++grids}`;
  /** @type {Item[]} */ #items = [];
  #current = -1;
  #layout = gridLayout(1, 0);
  /** @type {Map<number, HTMLElement>} */ #rows = new Map(); // by number
  #onCurrent;

  /**
   * @param {Document} document
   * @param {string} label accessible name
   * @param {{fill: (tile: HTMLElement, item: Item) => void, onCurrent: (item: Item | undefined) => void,
   *   onOpen: (item: Item, event: MouseEvent | KeyboardEvent) => void}} use `fill`
   *   puts an item into a tile, which may show another one; `onCurrent` is called when the user moves to another tile
   */
  constructor(document, label, { fill, onCurrent, onOpen }) {
    this.#document = document;
    this.#fill = fill;
    this.#onCurrent = onCurrent;
    this.#content = create(document, "div", { className: "content", role: "presentation" });
    // The focus stays on the grid, and the current tile is its active descendant: a tile that is scrolled away is removed.
    this.element = create(document, "div", { className: "grid", role: "grid", tabIndex: 0, ariaLabel: label }, this.#content);
    this.element.addEventListener("scroll", () => this.#render());
    this.element.addEventListener("keydown", (event) => this.#key(event, onOpen));
    this.element.addEventListener("click", (event) => this.#click(event, onOpen));
  }

  /** The item of the current tile, or undefined. */
  get current() {
    return this.#items[this.#current];
  }

  /**
   * Shows other items. The current one stays current, and at its place on the screen; if it is gone, the tile at its place
   * becomes current.
   *
   * @param {Item[]} items
   */
  show(items) {
    const id = this.current?.id;
    const at = items.findIndex((item) => item.id === id);
    const moved = at < 0 ? Math.min(this.#current, items.length - 1) : at;
    this.#items = items;
    this.#current = moved;
    for (const [number, row] of this.#rows) {
      if (row.children.length === this.#countIn(number)) this.#fillRow(row, number);
      else this.#removeRow(number);
    }
    this.layout();
    if (this.current?.id !== id) this.#onCurrent(this.current);
  }

  /** Fills the existing tiles again. */
  refresh() {
    this.#rows.forEach((row, number) => this.#fillRow(row, number));
  }

  /** Places all tiles; to be called when the width has changed. */
  layout() {
    const { clientWidth } = this.element;
    const style = windowOf(this.#document).getComputedStyle(this.element);
    const inner = clientWidth - parseFloat(style.paddingLeft || "0") - parseFloat(style.paddingRight || "0");
    if (!(inner > 0)) return;
    const before = this.#layout;
    this.#layout = gridLayout(inner, this.#items.length);
    const { columns, tile, height, rows } = this.#layout;
    if (columns !== before.columns || tile !== before.tile) [...this.#rows.keys()].forEach((number) => this.#removeRow(number));
    this.#content.style.height = `${height}px`;
    this.element.style.setProperty("--tile", `${tile}px`);
    this.element.setAttribute("aria-rowcount", String(rows));
    this.element.setAttribute("aria-colcount", String(columns));
    this.#render();
  }

  /** Makes an item the current one, and scrolls to it. @param {string} id */
  select(id) {
    const at = this.#items.findIndex((item) => item.id === id);
    if (at >= 0) this.#moveTo(at);
  }

  focus() {
    this.element.focus({ preventScroll: true });
  }

  #render() {
    const { first, last } = rowsNear(this.#layout, this.element.scrollTop, this.element.clientHeight);
    for (const number of [...this.#rows.keys()]) {
      if (number < first || number > last) this.#removeRow(number);
    }
    /** @type {HTMLElement | null} */
    let before = null;
    for (let number = first; number <= last; number++) {
      const row = this.#rows.get(number) ?? this.#newRow(number);
      if (!row.parentNode) this.#content.insertBefore(row, before ? before.nextSibling : this.#content.firstChild); // in order, for screen readers
      before = row;
    }
    this.#mark();
  }

  /** @param {number} number */
  #newRow(number) {
    const row = create(this.#document, "div", { className: "grid-row", role: "row" });
    row.setAttribute("aria-rowindex", String(number + 1));
    row.style.top = `${number * this.#layout.row}px`;
    const { columns } = this.#layout;
    for (let column = 0; column < this.#countIn(number); column++) {
      const tile = create(this.#document, "div", { className: "tile", role: "gridcell", id: `${this.#prefix}-${number * columns + column}` });
      tile.setAttribute("aria-colindex", String(column + 1));
      row.append(tile);
    }
    this.#rows.set(number, row);
    this.#fillRow(row, number);
    return row;
  }

  /** @param {number} number of a row */
  #countIn(number) {
    const { columns } = this.#layout;
    return Math.max(0, Math.min(columns, this.#items.length - number * columns));
  }

  /** @param {number} number */
  #removeRow(number) {
    this.#rows.get(number)?.remove();
    this.#rows.delete(number);
  }

  /** @param {HTMLElement} row @param {number} number */
  #fillRow(row, number) {
    tilesOf(row).forEach((tile, column) => this.#fill(tile, this.#items[number * this.#layout.columns + column]));
  }

  /** Marks the current tile. */
  #mark() {
    /** @type {HTMLElement | null} */
    let found = null;
    for (const [number, row] of this.#rows) {
      for (const [column, tile] of tilesOf(row).entries()) {
        const isCurrent = number * this.#layout.columns + column === this.#current;
        tile.ariaSelected = String(isCurrent);
        if (isCurrent) found = tile;
      }
    }
    if (found) this.element.setAttribute("aria-activedescendant", found.id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /** @param {number} at */
  #moveTo(at) {
    const { row, columns } = this.#layout;
    const isNew = at !== this.#current;
    this.#current = at;
    const top = Math.floor(at / columns) * row;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + row > scrollTop + clientHeight) this.element.scrollTop = top + row - clientHeight;
    this.#render();
    if (isNew) this.#onCurrent(this.current);
  }

  /** @param {KeyboardEvent} event @param {(item: Item, event: KeyboardEvent) => void} onOpen */
  #key(event, onOpen) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.element) return;
    const { columns, row } = this.#layout;
    const onScreen = Math.max(1, Math.floor(this.element.clientHeight / row));
    const isOpening = event.key === "Enter" || event.key === " ";
    const next = tileAfterKey(event.key, Math.max(0, this.#current), this.#items.length, columns, onScreen);
    const to = this.#current < 0 && event.key.startsWith("Arrow") ? 0 : next; // the first key goes to the first tile
    if (isOpening && this.current) onOpen(this.current, event);
    else if (to !== null && this.#items.length) this.#moveTo(to);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {MouseEvent} event @param {(item: Item, event: MouseEvent) => void} onOpen */
  #click(event, onOpen) {
    const tile = targetOf(event).closest(".tile");
    if (!tile) return;
    const at = Number(tile.id.split("-").at(-1));
    this.focus();
    this.#moveTo(at);
    if (this.current && !targetOf(event).closest("button")) onOpen(this.current, event);
  }
}
