/** Shows the facts of one run of a library, with what can be done with it. */

import { button, create, setButton } from "./elements.mjs";
import { later, t } from "./language.mjs";
import { facts, stateLabel, whenLabel } from "./library-entry.mjs";

/** @typedef {import("./library-entry.mjs").Entry} Entry */
/** @typedef {Record<"open" | "compare" | "star" | "workflow" | "folder" | "save" | "remove", (entry: Entry) => void>} EntryCommands */

const SAVE_NOTE_MS = 800; // after the last key
/** @type {[keyof Entry["products"], string][]} */
const PRODUCTS = [["page", later("Page of the run")], ["sheet", later("Contact sheet")], ["animation", later("Animation")]];

export class RunInspector {
  #document;
  #source;
  #commands;
  #title;
  #state;
  #buttons;
  #facts;
  #prompt;
  #note;
  #noteLabel;
  #links;
  /** @type {number | undefined} */ #timer;
  /** @type {Entry | null} */ #entry = null;

  /**
   * @param {Document} document
   * @param {import("./library-source.mjs").Runs} source
   * @param {EntryCommands & {writeNote: (id: string, note: string) => void}} commands
   * @param {string | undefined} workflowLabel what the host does with the workflow of a run; undefined: it can do nothing
   */
  constructor(document, source, commands, workflowLabel) {
    this.#document = document;
    this.#source = source;
    this.#commands = commands;
    this.#title = create(document, "h2", { className: "title" });
    this.#state = create(document, "span", { className: "state" });
    /** @param {keyof EntryCommands} name */
    const act = (name) => () => this.#entry && commands[name](this.#entry);
    this.#buttons = {
      open: button(document, "openTab", t("Open this run (Enter)"), act("open")),
      compare: button(document, "compare", "", act("compare")),
      star: source.act && button(document, "star", "", act("star")),
      workflow: workflowLabel && button(document, "workflow", workflowLabel, act("workflow")),
      folder: button(document, "folder", "", act("folder")),
      save: source.act && button(document, "save", t("Save this live run to the output folder"), act("save")),
      remove: source.act && button(document, "remove", t("Delete this run (Delete); it can be undone"), act("remove")),
    };
    const shown = Object.values(this.#buttons).flatMap((button) => button || []);
    const bar = create(document, "div", { className: "actions", role: "toolbar", ariaLabel: t("Actions for the selected run") }, ...shown);
    this.#facts = create(document, "dl", { className: "facts" });
    this.#prompt = create(document, "p", { className: "prompt" });
    this.#links = create(document, "p", { className: "links" });
    this.#note = create(document, "textarea", { className: "note", rows: 2, maxLength: 2000, placeholder: t("Your note"), readOnly: !source.act });
    this.#noteLabel = create(document, "label", { className: "note-label" }, create(document, "span", { textContent: t("Note") }), this.#note);
    this.#note.addEventListener("input", () => this.#writeLater());
    this.#note.addEventListener("blur", () => this.writeNote());
    const head = create(document, "div", { className: "head" }, this.#title, this.#state, bar);
    const body = create(document, "div", { className: "body", tabIndex: 0, role: "group", ariaLabel: t("Facts of the selected run") }, this.#prompt, this.#noteLabel, this.#facts, this.#links);
    this.element = create(document, "section", { className: "inspector", ariaLabel: t("Selected run"), hidden: true }, head, body);
  }

  /**
   * @param {Entry | undefined} entry
   * @param {{marked: Entry | null, opened: boolean}} place the run that waits for a comparison; whether this run is open
   */
  show(entry, { marked, opened }) {
    if (entry?.id !== this.#entry?.id) this.writeNote();
    const isOther = entry?.id !== this.#entry?.id;
    this.#entry = entry ?? null;
    this.element.hidden = !entry;
    if (!entry) return;
    this.#title.textContent = whenLabel(entry) || t("Unknown date");
    this.#state.textContent = [stateLabel(entry), entry.live && t("not saved")].filter(Boolean).join(" · ");
    this.#showButtons(entry, marked, opened);
    this.#facts.replaceChildren(...facts(entry).flatMap(([name, value]) => [this.#text("dt", name), this.#text("dd", value)]));
    this.#prompt.textContent = entry.prompt;
    if (isOther || this.#document.activeElement !== this.#note) {
      if (!this.#timer && this.#note.value !== entry.note) this.#note.value = entry.note;
    }
    this.#noteLabel.hidden = !this.#source.act && !entry.note;
    this.#showLinks(entry);
  }

  /** Moves the keyboard focus to the note. */
  editNote() {
    if (!this.#noteLabel.hidden) this.#note.focus();
  }

  /** Writes a note that was changed and not written yet. */
  writeNote() {
    if (!this.#timer) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#entry) this.#commands.writeNote(this.#entry.id, this.#note.value);
  }

  #writeLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.writeNote(), SAVE_NOTE_MS);
  }

  /** @param {Entry} entry @param {Entry | null} marked @param {boolean} opened */
  #showButtons(entry, marked, opened) {
    const { open, compare, star, workflow, folder, save, remove } = this.#buttons;
    open.hidden = opened;
    const isMarked = marked?.id === entry.id;
    const other = marked && !isMarked ? t("Compare with the run of {date} (C)", { date: whenLabel(marked) }) : t("Compare with another run: choose it next (C)");
    setButton(this.#document, compare, "compare", isMarked ? t("Compare with no other run (C)") : other);
    compare.ariaPressed = String(isMarked);
    if (star) {
      setButton(this.#document, star, "star", entry.star ? t("Take the star away (S)") : t("Give this run a star (S)"));
      star.ariaPressed = String(entry.star);
    }
    if (workflow) workflow.hidden = !entry.workflow;
    folder.hidden = !entry.folder;
    setButton(this.#document, folder, "folder", this.#source.folderLink ? t("Open its folder (F)") : t("Copy the path of its folder (F)"));
    if (save) save.hidden = !entry.live || Boolean(entry.folder) || entry.state === "running";
    if (remove) remove.disabled = entry.state === "running" && entry.live;
  }

  /** Links to the files about the whole run, where a browser can open them. @param {Entry} entry */
  #showLinks(entry) {
    const links = PRODUCTS.flatMap(([name, label]) => {
      const file = entry.products[name];
      if (!file || (name === "page" && !this.#source.folderLink)) return [];
      const href = this.#source.picture(entry, file);
      return create(this.#document, "a", { textContent: t(label), href, target: "_blank", rel: "noopener" });
    });
    this.#links.replaceChildren(...links);
    this.#links.hidden = !links.length;
  }

  /** @param {"dt" | "dd"} tag @param {string} textContent */
  #text(tag, textContent) {
    return create(this.#document, tag, { textContent });
  }
}
