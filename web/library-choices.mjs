/** Remembers in the browser which order of runs the user chose in a library. */

import { windowOf } from "./elements.mjs";

const STORED = "Safelight.Library";

/** @typedef {{sort: string, starred: boolean}} Choices */

/** The user's last choices; none if the browser stores nothing. @param {Document} document @returns {Partial<Choices>} */
export function readChoices(document) {
  try {
    return JSON.parse(windowOf(document).localStorage.getItem(STORED) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

/** Stores the user's choices, if the browser stores anything. @param {Document} document @param {Choices} choices */
export function writeChoices(document, choices) {
  try {
    windowOf(document).localStorage.setItem(STORED, JSON.stringify(choices));
  } catch {
    // the order is the usual one next time
  }
}
