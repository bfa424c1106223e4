/** Lists the entries of a picture's menu that change its run: star, note, delete with undo. */

import { t } from "./language.mjs";

/**
 * What the entries use.
 *
 * @typedef {object} Desk
 * @property {(id: string, action: string, body?: object) => Promise<import("./library-source.mjs").Result>} act as for `Runs.act`
 * @property {(token: string) => Promise<import("./library-source.mjs").Result>} undo brings a deleted run back
 * @property {(title: string, before: string) => Promise<string | null>} ask asks the user for a text; null: canceled
 * @property {(id: string) => void} forget removes a deleted run from the page
 * @property {() => void} refresh reads the runs of the page again
 * @property {string} place where Ctrl+Z undoes a deletion, in words
 * @property {(id: string) => {star: boolean, note: string} | undefined} [marks] the star and the note of a run, if its manifest
 *   does not have them
 */

/** @param {Desk} desk @returns {import("./action-menu.mjs").Actions} */
export function libraryActions(desk) {
  /** @type {string[]} */
  const deleted = []; // tokens, the last deletion last
  /** @param {import("./types.mjs").Run} run @param {string} action @param {object} [body] */
  const change = async (run, action, body) => {
    const answer = await desk.act(run.id, action, body);
    if (!answer.done) throw new Error(answer.text);
    if (answer.run && run.manifest) run.manifest.marks = { star: answer.run.star === true, note: String(answer.run.note ?? "") };
    return answer;
  };
  return ({ run }) => {
    const { star = false, note = "" } = desk.marks?.(run.id) ?? run.manifest?.marks ?? {};
    return [
      {
        label: star ? t("Take the star of this run away") : t("Give this run a star"),
        run: async () => {
          await change(run, "star", { star: !star });
          return star ? t("Star taken away") : t("Starred");
        },
      },
      {
        label: note ? t("Edit the note on this run") : t("Write a note on this run"),
        run: async () => {
          const text = await desk.ask(t("Note on this run"), note);
          if (text === null) return undefined;
          await change(run, "note", { note: text });
          return text ? t("Note saved") : t("Note removed");
        },
      },
      {
        label: t("Delete this run"),
        why: run.state === "running" ? t("This run is still running. Stop it first") : undefined,
        run: async () => {
          const { undo, text } = await change(run, "delete");
          if (undo) deleted.push(undo);
          desk.forget(run.id);
          return t("{done}. To undo it, press Ctrl+Z in {place}", { done: text, place: desk.place });
        },
      },
      ...(deleted.length ? [{ label: t("Bring the deleted run back"), run: () => bringBack(desk, deleted) }] : []),
    ];
  };
}

/** @param {Desk} desk @param {string[]} deleted */
async function bringBack(desk, deleted) {
  const answer = await desk.undo(deleted.at(-1) ?? "");
  if (!answer.done) throw new Error(answer.text);
  deleted.pop();
  desk.refresh();
  return t("The run is back");
}
