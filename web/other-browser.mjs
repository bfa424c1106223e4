/** Lets a browser list the runs that another one has queued. The user carries the key: the name of a user is no secret. */

import { later, t } from "./language.mjs";

export const OTHER_BROWSER_LABEL = later("List the runs of another browser here");

/**
 * What it uses of the page.
 *
 * @typedef {object} Place
 * @property {(title: string, message: string) => Promise<string | null>} ask asks the user for a text; null: canceled
 * @property {(key: string) => void} keep stores the key in place of this browser's own
 * @property {(text: string) => void} notify shows a result
 */

/** Asks for the address that the other browser has copied, and takes over its key. @param {Place} place */
export async function listOtherBrowser({ ask, keep, notify }) {
  const entry = t("Copy the address for another screen");
  const message = t("In the other browser, open the menu on a picture and choose “{entry}”. Paste the address here. From then on, both list the same runs. What this browser has queued so far is listed no more.", { entry });
  const address = await ask(t(OTHER_BROWSER_LABEL), message);
  if (address === null) return;
  const key = keyIn(address);
  if (!key) return notify(t("This is not the address that the menu of the other browser copies"));
  keep(key);
  notify(t("Both browsers list the same runs now"));
}

/** The key in the address of a live page. @param {string} address @returns {string | null} */
export function keyIn(address) {
  return /#(?:.*&)?key=([0-9a-f]{64})(?:&|\s*$)/.exec(address)?.[1] ?? null;
}
