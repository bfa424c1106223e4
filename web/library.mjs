/** Shows all runs of a library: a grid with search, and a viewer for the run that the user opens. */

import { button, create, targetOf, windowOf } from "./elements.mjs";
import { later, plural, t, textDirection, whole } from "./language.mjs";
import { whenLabel } from "./library-entry.mjs";
import { FIELD_NAMES, shownEntries, SORTS } from "./library-query.mjs";
import { LIBRARY_STYLE } from "./library-style.mjs";
import { LibraryTiles } from "./library-tiles.mjs";
import { LibraryTrash } from "./library-trash.mjs";
import { RunInspector } from "./run-inspector.mjs";
import { UndoMessage } from "./undo-message.mjs";
import { Viewer } from "./viewer.mjs";
import { VirtualGrid } from "./virtual-grid.mjs";

/** @typedef {import("./library-entry.mjs").Entry} Entry */

const SEARCH_PAUSE_MS = 120; // after the last key
const STARRED_LIVE = later("Starred: newer runs do not remove it. It stays until ComfyUI ends, unless you save it");
const OPEN_WORKFLOW = later("Open its workflow (W)");
const NEIGHBORS = 40; // runs before and after the opened one, in the viewer's row
const TYPED_EVENTS = ["keydown", "keyup", "keypress", "copy", "cut", "paste", "wheel"]; // of which the host would take some for its own
const SEARCH_HELP = later("All words must match. With a name, a word searches one field: {names}. A minus excludes.");
const SEARCH_NAMES = FIELD_NAMES.map((name) => `${name}:`).join(" ");

/**
 * @typedef {object} LibraryOptions
 * @property {string} [empty] text while there is no run
 * @property {Partial<import("./library-choices.mjs").Choices>} [view] the user's last choices
 * @property {(view: import("./library-choices.mjs").Choices) => void} [onView] called when the user changes them
 * @property {(entry: Entry, address: string) => Promise<string | void>} [openWorkflow] opens the workflow in the picture at an
 *   address, and returns its result in words
 * @property {string} [workflowLabel] what that does, for its button
 * @property {(live: string | undefined) => void} [onDeleted] called after a run was deleted, with the address of its live copy
 * @property {() => void} [onRestored] called after a deleted run was brought back
 */

export class Library {
  #document;
  #source;
  #options;
  /** @type {VirtualGrid<Entry>} */ #grid;
  #tiles;
  #inspector;
  #trash;
  #search;
  #sort;
  #starred;
  #tools;
  #nav;
  #trashButton;
  #status;
  #empty;
  #viewing;
  #message;
  #root;
  /** @type {Entry[]} */ #shown = []; // entries in the grid
  /** @type {string | null} */ #marked = null; // id of the run that waits for a comparison
  /** @type {Viewer | null} */ #viewer = null; // while a run is opened
  #unfollow = () => {}; // ends the updates of the viewer
  /** @type {string | null} */ #selected = null; // id of the run that the viewer shows first
  /** @type {string[]} */ #undo = []; // tokens, the last deletion last
  /** @type {number | undefined} */ #timer;

  /** The user's commands by the keys of the grid. @type {Record<string, (entry: Entry) => unknown>} */
  #keys = {
    s: (entry) => this.#commands.star(entry),
    c: (entry) => this.#commands.compare(entry),
    n: () => this.#inspector.editNote(),
    f: (entry) => this.#commands.folder(entry),
    w: (entry) => this.#commands.workflow(entry),
    Delete: (entry) => this.#commands.remove(entry),
    Backspace: (entry) => this.#commands.remove(entry),
  };

  /** @type {import("./run-inspector.mjs").EntryCommands & {writeNote: (id: string, note: string) => void}} */
  #commands = {
    open: (entry) => this.#open([entry]),
    compare: (entry) => this.#compare(entry),
    star: (entry) => this.#source.act && this.#star(entry),
    writeNote: (id, note) => this.#act({ id }, "note", { note }),
    workflow: (entry) => this.#openWorkflow(entry),
    folder: (entry) => this.#showFolder(entry),
    save: (entry) => this.#act(entry, "save"),
    remove: (entry) => this.#source.act && this.#act(entry, "delete"),
  };

  /**
   * @param {Document} document of `element`
   * @param {import("./library-source.mjs").Runs} source
   * @param {LibraryOptions} [options]
   */
  constructor(document, source, options = {}) {
    this.#document = document;
    this.#source = source;
    this.#options = options;
    this.#search = create(document, "input", { type: "search", className: "search", placeholder: t("Search runs"), ariaLabel: t("Search runs"), title: t(SEARCH_HELP, { names: SEARCH_NAMES }), spellcheck: false });
    this.#search.addEventListener("input", () => this.#searchLater());
    this.#sort = create(document, "select", { className: "sort", ariaLabel: t("Order of the runs") });
    this.#sort.append(...Object.entries(SORTS).map(([value, { label }]) => create(document, "option", { value, textContent: t(label) })));
    const { sort = "" } = options.view ?? {};
    if (Object.hasOwn(SORTS, sort)) this.#sort.value = sort;
    this.#sort.addEventListener("change", () => this.#changeView());
    this.#starred = button(document, "star", t("Show only runs with a star"), () => this.#toggleStarred());
    this.#starred.ariaPressed = String(options.view?.starred === true);
    const back = create(document, "button", { type: "button", className: "back", textContent: t("‹ All runs") });
    back.addEventListener("click", () => this.#goBack());
    this.#trashButton = button(document, "remove", t("Deleted runs"), () => this.#toggleTrash());
    this.#trashButton.ariaPressed = "false";
    this.#trashButton.hidden = !source.trash;
    this.#tools = create(document, "div", { className: "bar", role: "search" }, this.#search, this.#sort, this.#starred, this.#trashButton);
    this.#status = create(document, "div", { className: "status", role: "status" });
    this.#tiles = new LibraryTiles(document, source, (entry) => this.#commands.star(entry));
    this.#grid = new VirtualGrid(document, t("Runs"), {
      fill: (tile, entry) => this.#tiles.fill(tile, entry, entry.id === this.#marked),
      onCurrent: () => this.#showInspector(),
      onOpen: (entry, event) => (event.shiftKey || event.ctrlKey || event.metaKey ? this.#compare(entry) : this.#open([entry])),
    });
    this.#grid.element.setAttribute("aria-describedby", "grid-help");
    const help = create(document, "span", { id: "grid-help", hidden: true, textContent: this.#helpText() });
    this.#empty = create(document, "div", { className: "empty" });
    this.#viewing = create(document, "div", { className: "viewing", hidden: true });
    this.#inspector = new RunInspector(document, source, this.#commands, options.openWorkflow && t(options.workflowLabel ?? OPEN_WORKFLOW));
    this.#trash = new LibraryTrash(document, source, (token) => this.#restore(token));
    this.#message = new UndoMessage(document, () => (this.#undoLast(), this.#grid.focus()));
    const main = create(document, "div", { className: "main" }, this.#grid.element, help, this.#empty, this.#viewing, this.#trash.element, this.#message.element);
    this.#nav = create(document, "div", { className: "bar nav", hidden: true }, back);
    this.#root = create(document, "div", { className: "library", role: "region", ariaLabel: t("Library of runs") }, this.#nav, this.#tools, this.#status, main, this.#inspector.element);
    /** Fills its parent, with a height of at least 320 px; its parts are in a shadow root. @type {HTMLElement} */
    this.element = create(document, "div", { dir: textDirection() });
    this.element.attachShadow({ mode: "open" }).append(create(document, "style", { textContent: LIBRARY_STYLE }), this.#root);
    this.#listen();
    this.render();
  }

  /** Gives the keyboard focus to the viewer, or to the grid. */
  focus() {
    if (this.#viewer) this.#viewer.focus();
    else this.#grid.focus();
  }

  /** Says what was done, here or elsewhere on the page, and offers to undo it. @param {import("./library-source.mjs").Result} answer */
  offerUndo({ undo, text }) {
    if (undo) this.#undo.push(undo);
    if (text) this.#message.show(text, Boolean(undo));
  }

  /** Shows what has changed in the source. */
  render() {
    const view = this.#view();
    this.#shown = shownEntries(this.#source.entries(), { ...view, query: this.#search.value });
    this.#grid.show(this.#shown);
    this.#showStatus();
    this.#showInspector();
  }

  #listen() {
    this.#source.onChange(() => this.render());
    const { ResizeObserver } = windowOf(this.#document);
    new ResizeObserver(() => this.#grid.layout()).observe(this.#grid.element);
    this.#root.addEventListener("keydown", (event) => this.#key(event));
    for (const name of TYPED_EVENTS) this.#root.addEventListener(name, (event) => event.stopPropagation());
  }

  #helpText() {
    const keys = [t("Enter opens a run"), t("C compares two")];
    if (this.#source.act) keys.push(t("S gives a star"), t("N edits the note"), t("Delete deletes"), t("Control and Z undoes it"));
    return [...keys, t("F is for the folder"), t("slash searches")].join(", ");
  }

  // What is shown

  #showInspector() {
    const marked = this.#entry(this.#marked);
    if (!marked) this.#marked = null;
    const trashed = !this.#trash.element.hidden;
    const shown = this.#viewer ? this.#entry(this.#selected) : this.#grid.current;
    this.#inspector.show(trashed ? undefined : shown, { marked: marked ?? null, opened: this.#viewer !== null });
  }

  /** @param {string | null} id */
  #entry(id) {
    return id === null ? undefined : this.#source.entries().find((entry) => entry.id === id);
  }

  #showStatus() {
    const [total, shown] = [this.#source.total(), this.#shown.length];
    const marked = this.#entry(this.#marked);
    const counts = { count: whole(total ?? 0), shown: whole(shown) };
    const all = () => plural(total ?? 0, "{count} run", "{count} runs", counts);
    const some = () => plural(total ?? 0, "{shown} of {count} run", "{shown} of {count} runs", counts);
    const found = total === null ? t("Reading the runs …") : shown === total ? all() : some();
    const texts = [
      !this.#source.reachable() && t("The server cannot be reached. What is loaded stays."),
      marked && !this.#viewer && t("Choose the run to compare with that of {date}: press C, or Shift and click. Escape ends this.", { date: whenLabel(marked) }),
      !this.#viewer && found,
    ];
    const text = texts.find(Boolean) || "";
    if (this.#status.textContent !== text) this.#status.textContent = text;
    this.#status.classList.toggle("waiting", Boolean(marked));
    this.#status.hidden = this.#viewer !== null && text === "";
    this.#empty.textContent = this.#viewer || shown || total === null ? "" : total ? t("No run matches.") : (this.#options.empty ?? t("There is no run yet."));
  }

  // View

  #view() {
    return { sort: this.#sort.value, starred: this.#starred.ariaPressed === "true" };
  }

  #changeView() {
    this.#options.onView?.(this.#view());
    this.render();
  }

  #toggleStarred() {
    this.#starred.ariaPressed = String(this.#starred.ariaPressed !== "true");
    this.#changeView();
  }

  #searchLater() {
    if (!this.#trash.element.hidden) this.#toggleTrash(false);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.render(), SEARCH_PAUSE_MS);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { key, ctrlKey, metaKey, altKey } = event;
    const target = targetOf(event);
    const command = this.#keys[key.length === 1 ? key.toLowerCase() : key];
    const isTyping = target.matches("input, textarea, select");
    if ((ctrlKey || metaKey) && key.toLowerCase() === "z" && !isTyping && this.#undo.length) this.#undoLast();
    else if (ctrlKey || metaKey || altKey) return;
    else if (key === "Escape") this.#escape(target);
    else if (target === this.#search && (key === "Enter" || key === "ArrowDown")) (this.render(), this.#grid.focus());
    else if (isTyping || this.#viewer) return;
    else if (key === "/") this.#search.focus();
    else if (target === this.#grid.element && command && this.#grid.current) command(this.#grid.current);
    else return;
    event.preventDefault();
  }

  /** Goes back by one: from the trash, the note, the viewer, a comparison that waits, or the search. @param {HTMLElement} target */
  #escape(target) {
    if (!this.#trash.element.hidden) this.#toggleTrash();
    else if (target.matches("textarea")) (this.#inspector.writeNote(), this.focus());
    else if (this.#viewer) this.#goBack();
    else if (this.#marked !== null) this.#mark(null);
    else if (this.#search.value) ((this.#search.value = ""), this.render());
    else this.#grid.focus();
  }

  // Commands

  /** @param {string | null} id */
  #mark(id) {
    this.#marked = id;
    this.#grid.refresh();
    this.#showStatus();
    this.#showInspector();
  }

  /** Marks a run for a comparison, or compares it with the marked one. @param {Entry} entry */
  #compare(entry) {
    const first = this.#entry(this.#marked);
    if (!first) {
      if (this.#viewer) this.#goBack();
      this.#mark(entry.id);
    } else if (first.id === entry.id) this.#mark(null);
    else {
      this.#marked = null;
      this.#open([first, entry]);
    }
  }

  /** Opens a run in a viewer, or compares two. The runs around it in the grid are in the viewer's row. @param {Entry[]} entries */
  #open(entries) {
    const at = this.#shown.findIndex(({ id }) => id === entries[0].id);
    const near = at < 0 ? [] : this.#shown.slice(Math.max(0, at - NEIGHBORS), at + NEIGHBORS + 1);
    const around = [...new Set([...near, ...entries])].sort((a, b) => b.started - a.started);
    this.#unfollow(); // of the viewer before, which is not on the page any more
    this.#selected = entries[0].id;
    const shown = this.#source.source(around.map(({ id }) => id));
    /** @param {() => void} listener */
    const onChange = (listener) => (this.#unfollow = shown.onChange(listener));
    const source = { ...shown, onChange };
    const viewer = (this.#viewer = new Viewer(this.#document, source, { view: { follow: false }, still: !this.#source.act, onRun: ({ id }) => this.#select(id) }));
    this.#viewing.replaceChildren(viewer.element);
    this.#setViewing(true);
    if (entries.length > 1) viewer.compare(entries[0].id, entries[1].id);
    else viewer.select(entries[0].id);
    this.#select(entries[0].id);
    viewer.focus();
  }

  /** @param {string} id */
  #select(id) {
    if (!this.#viewer) return;
    this.#selected = id;
    this.#showInspector();
  }

  #goBack() {
    this.#viewer = null;
    this.#unfollow();
    this.#viewing.replaceChildren();
    this.#setViewing(false);
    if (this.#selected !== null) this.#grid.select(this.#selected);
    this.#showInspector();
    this.#grid.focus();
  }

  /** @param {boolean} viewing */
  #setViewing(viewing) {
    this.#viewing.hidden = !viewing;
    this.#nav.hidden = !viewing;
    this.#tools.hidden = this.#grid.element.hidden = viewing;
    this.#grid.refresh();
    this.#showStatus();
  }

  /** @param {Entry} entry */
  async #star(entry) {
    const star = !entry.star;
    const isDone = await this.#act(entry, "star", { star });
    if (isDone) this.#message.show(!star ? t("Star taken away") : entry.live && !entry.folder ? t(STARRED_LIVE) : t("Starred"));
  }

  /**
   * Changes a run, and says what came of it.
   *
   * @param {{id: string}} entry @param {string} action @param {object} [body]
   * @returns {Promise<boolean>} whether it was done
   */
  async #act(entry, action, body) {
    const answer = await this.#source.act?.(entry.id, action, body);
    if (!answer) return false;
    if (!answer.done) this.#message.show(t("Not done: {reason}", { reason: answer.text }));
    if (!answer.done) return false;
    if (answer.undo) {
      this.#options.onDeleted?.(answer.live);
      if (this.#viewer) this.#goBack();
    }
    this.offerUndo(answer);
    return true;
  }

  async #undoLast() {
    const token = this.#undo.pop();
    if (token) await this.#restore(token);
  }

  /** @param {string} token */
  async #restore(token) {
    const answer = await this.#source.undo?.(token);
    if (!answer) return false;
    this.#undo = this.#undo.filter((other) => other !== token);
    if (answer.done) this.#options.onRestored?.();
    this.#message.show(answer.done ? t("The run is back") : t("Not done: {reason}", { reason: answer.text }));
    return answer.done;
  }

  /** @param {Entry} entry */
  async #openWorkflow(entry) {
    if (!this.#options.openWorkflow || !entry.workflow || !entry.thumbnail) return;
    try {
      const text = await this.#options.openWorkflow(entry, this.#source.picture(entry, entry.thumbnail));
      if (text) this.#message.show(text);
    } catch (error) {
      this.#message.show(t("No workflow: {reason}", { reason: /** @type {Error} */ (error).message }));
    }
  }

  /** Opens the folder of a run where a browser can do that, else copies its path. @param {Entry} entry */
  async #showFolder(entry) {
    if (!entry.folder) return this.#message.show(t("This run is not saved, so it has no folder"));
    const window = windowOf(this.#document);
    const link = this.#source.folderLink?.(entry);
    if (link) return void window.open(link, "_blank", "noopener");
    const path = [this.#source.root, entry.folder === "." ? "" : entry.folder].filter(Boolean).join("/");
    try {
      await window.navigator.clipboard.writeText(path);
      this.#message.show(t("Copied: {path}", { path }));
    } catch {
      this.#message.show(path); // a browser denies the clipboard to pages over plain http from another machine
    }
  }

  #toggleTrash(takesFocus = true) {
    const isShown = !this.#trash.element.hidden;
    if (isShown) this.#trash.hide();
    else this.#trash.show();
    this.#trashButton.ariaPressed = String(!isShown);
    this.#showInspector();
    if (isShown && takesFocus) this.#grid.focus();
  }
}
