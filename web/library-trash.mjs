/** Shows the deleted runs of a library, and brings them back. */

import { create } from "./elements.mjs";
import { date, later, plural, t } from "./language.mjs";

/** @typedef {{undo: string, folder: string, deleted: string}} DeletedRun */

/** @type {Intl.DateTimeFormatOptions} */
const WHEN = { dateStyle: "medium", timeStyle: "short" };
const EMPTY = later("The trash is empty.");
const PLACE = later("Deleted runs are in .safelight/trash of the folder of runs, for 30 days. To free the disk earlier, delete that folder.");

export class LibraryTrash {
  #document;
  #source;
  #restore;
  #list;
  #status;

  /**
   * @param {Document} document
   * @param {import("./library-source.mjs").Runs} source
   * @param {(token: string) => Promise<boolean>} restore brings a run back, and says so
   */
  constructor(document, source, restore) {
    this.#document = document;
    this.#source = source;
    this.#restore = restore;
    this.#status = create(document, "p", { role: "status" });
    this.#list = create(document, "ul");
    this.element = create(document, "section", { className: "trash", role: "region", ariaLabel: t("Trash"), tabIndex: -1, hidden: true });
    this.element.append(this.#status, this.#list, create(document, "p", { className: "place", textContent: t(PLACE) }));
  }

  /** Asks for the deleted runs, and shows them. */
  async show() {
    this.element.hidden = false;
    const runs = (await this.#source.trash?.()) ?? null;
    this.#status.textContent = runs === null ? t("The trash cannot be read. Try again.") : runs.length ? plural(runs.length, "{count} deleted run", "{count} deleted runs") : t(EMPTY);
    this.#list.replaceChildren(...(runs ?? []).map((run) => this.#row(run)));
  }

  hide() {
    this.element.hidden = true;
  }

  /** @param {DeletedRun} run */
  #row({ undo, folder, deleted }) {
    const at = Date.parse(deleted);
    const textContent = Number.isNaN(at) ? folder : t("{folder}, deleted {date}", { folder, date: date(at, WHEN) });
    const name = create(this.#document, "span", { textContent });
    const restore = create(this.#document, "button", { type: "button", className: "word", textContent: t("Restore"), ariaLabel: t("Restore {folder}", { folder }) });
    restore.addEventListener("click", async () => {
      restore.disabled = true;
      await this.#restore(undo);
      await this.show();
      (this.#list.querySelector("button") ?? this.element).focus();
    });
    return create(this.#document, "li", {}, name, restore);
  }
}
