/** Saves what a page holds as a file of the user. */

import { create, windowOf } from "./elements.mjs";

const REVOKE_AFTER_MS = 60_000; // the browser has written the file by then

/** Saves a blob. @param {Document} document @param {Blob} blob @param {string} name of the file */
export function download(document, blob, name) {
  const { URL } = windowOf(document);
  const address = URL.createObjectURL(blob);
  follow(document, address, name);
  setTimeout(() => URL.revokeObjectURL(address), REVOKE_AFTER_MS);
}

/** Saves what is at an address. @param {Document} document @param {string} href @param {string} name of the file */
export function follow(document, href, name) {
  // On a `file:` page a browser ignores `download` and opens the picture; `target` keeps it from replacing the page.
  create(document, "a", { href, download: name, target: "_blank", rel: "noopener" }).click();
}
