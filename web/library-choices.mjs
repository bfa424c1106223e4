/** Remembers in the browser which order of runs the user chose in a library. */

const STORED = "Safelight.Library";

/** The user's last choices; none if the browser stores nothing. @param {Document} document */
export function readChoices({ defaultView }) {
  try {
    return JSON.parse(defaultView.localStorage.getItem(STORED)) ?? {};
  } catch {
    return {};
  }
}

/** Stores the user's choices, if the browser stores anything. */
export function writeChoices({ defaultView }, choices) {
  try {
    defaultView.localStorage.setItem(STORED, JSON.stringify(choices));
  } catch {
    // the order is the usual one next time
  }
}
