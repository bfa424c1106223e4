/** Opens a page in a window that stays on top of all others, where the browser can (Document Picture-in-Picture). */

import { create } from "./elements.mjs";
import { currentLanguage } from "./language.mjs";

const SIZE = { width: 480, height: 560 };

/**
 * @typedef {Window & {documentPictureInPicture: {requestWindow(size: typeof SIZE): Promise<Window>}}} PictureInPicture a browser's window with this API
 */

/**
 * Opens a page of this site on top of all windows. It replaces the window that was opened so before, and closes with the
 * page that opens it.
 *
 * @param {Window} window
 * @param {URL} url
 * @param {string} title of the window, also for screen readers
 * @returns {Promise<boolean>} whether the browser could. It must have this API, and the page https or this machine's address
 */
export async function openOnTop(window, url, title) {
  let document;
  try {
    ({ document } = await /** @type {PictureInPicture} */ (window).documentPictureInPicture.requestWindow(SIZE));
  } catch {
    return false; // without the API, or not allowed, as in a frame
  }
  document.title = title;
  document.documentElement.lang = currentLanguage();
  Object.assign(document.body.style, { margin: "0", background: "#151617" });
  const style = { display: "block", width: "100vw", height: "100vh", border: "0" };
  document.body.append(create(document, "iframe", { src: url.href, title, style }));
  return true;
}
