/** Shows the deleted runs of a library, and brings them back. */

import { create } from "./elements.mjs";

const WHEN = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "short" });
const EMPTY = "The trash is empty.";
const PLACE = "Deleted runs are in .safelight/trash of the folder of runs, for 30 days. To free the disk earlier, delete that folder.";

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
    this.element = create(document, "section", { className: "trash", role: "region", ariaLabel: "Trash", tabIndex: -1, hidden: true });
    this.element.append(this.#status, this.#list, create(document, "p", { className: "place", textContent: PLACE }));
  }

  /** Asks for the deleted runs, and shows them. */
  async show() {
    this.element.hidden = false;
    const runs = await this.#source.trash();
    this.#status.textContent = runs === null ? "The trash cannot be read. Try again." : runs.length ? `${runs.length} deleted ${runs.length === 1 ? "run" : "runs"}` : EMPTY;
    this.#list.replaceChildren(...(runs ?? []).map((run) => this.#row(run)));
  }

  hide() {
    this.element.hidden = true;
  }

  #row({ undo, folder, deleted }) {
    const at = Date.parse(deleted);
    const when = Number.isNaN(at) ? "" : `, deleted ${WHEN.format(at)}`;
    const name = create(this.#document, "span", { textContent: `${folder}${when}` });
    const restore = create(this.#document, "button", { type: "button", className: "word", textContent: "Restore", ariaLabel: `Restore ${folder}` });
    restore.addEventListener("click", async () => {
      restore.disabled = true;
      await this.#restore(undo);
      await this.show();
      (this.#list.querySelector("button") ?? this.element).focus();
    });
    return create(this.#document, "li", {}, name, restore);
  }
}
