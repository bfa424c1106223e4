/** Saves the workflow of a run as a file that its host opens, on a page outside the host. */

import { download } from "./download.mjs";
import { later, t } from "./language.mjs";

export const SAVE_WORKFLOW = later("Save its workflow as a file (W)");
/** How the user opens the file, by the host. @type {Record<string, string>} */
const HOW_TO_OPEN = {
  invokeai: later("In InvokeAI, open the tab Workflows, and in its menu Load from File"),
  comfyui: later("Drag the file onto ComfyUI"),
};
const NOT_IN_NAMES = /[^\p{L}\p{N}_.-]+/gu;

/** The name of the file. @param {import("./library-entry.mjs").Entry} entry */
export function workflowFileName({ folder, id }) {
  const name = (folder ?? "").split("/").at(-1)?.replace(NOT_IN_NAMES, "_").replace(/^\.+/, "");
  return `${name || id.slice(0, 8)}_workflow.json`;
}

/**
 * A function that saves the workflow of a run, and returns what was done in words.
 *
 * @param {Document} document
 * @param {(path: string) => Promise<Response>} request fetches a path
 * @param {string} base path of the library
 * @returns {(entry: import("./library-entry.mjs").Entry) => Promise<string>}
 */
export function workflowSaver(document, request, base) {
  return async (entry) => {
    const answer = await request(`${base}/${encodeURIComponent(entry.id)}/workflow`).catch(() => null);
    if (!answer) throw new Error(t("the server cannot be reached. Try again"));
    if (!answer.ok) throw new Error(t("its picture is gone"));
    const name = workflowFileName(entry);
    download(document, await answer.blob(), name);
    return [t("Saved {name}", { name }), t(HOW_TO_OPEN[entry.host] ?? "")].filter(Boolean).join(". ");
  };
}
