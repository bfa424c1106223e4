/** The page of one run that holds its pictures within itself: for the cell of a notebook, which has no folder. */

import { embedded } from "./page.mjs";
import { Viewer } from "./viewer.mjs";

const TYPES = { png: "image/png", webp: "image/webp", jpg: "image/jpeg" };
const CLEAR = /^transparent$|^rgba\(.*, 0\)$/;

/**
 * Gives the address of a picture, made when it is first asked for: one that a browser opens in a tab and saves by its name.
 *
 * @param {Record<string, string>} pictures in base64, by the name of the file
 * @param {Window} window
 */
export function addressed(pictures, { URL, Blob, atob }) {
  const made = new Map();
  return (id, file) => {
    if (!made.has(file) && pictures[file] !== undefined) {
      const bytes = Uint8Array.from(atob(pictures[file]), (character) => character.charCodeAt(0));
      const blob = new Blob([bytes], { type: TYPES[file.split(".").at(-1)] ?? "" });
      made.set(file, `${URL.createObjectURL(blob)}#${encodeURIComponent(file)}`);
    }
    return made.get(file) ?? "";
  };
}

/** The colours around the frame that a page is in, where it may look: a notebook's are not always the browser's. */
export function surroundings({ frameElement }) {
  if (!frameElement) return null;
  const styleOf = (element) => element.ownerDocument.defaultView.getComputedStyle(element);
  for (let around = frameElement.parentElement; around; around = around.parentElement) {
    const { backgroundColor } = styleOf(around);
    if (!CLEAR.test(backgroundColor)) return { ground: backgroundColor, text: styleOf(frameElement.parentElement).color };
  }
  return null;
}

/** Begins: the page holds a manifest and pictures. @param {Document} document */
export function start(document) {
  const { manifest, pictures } = JSON.parse(document.getElementById("safelight").textContent);
  const { style } = document.documentElement;
  const around = surroundings(document.defaultView);
  if (around) {
    style.setProperty("--safelight-ground", around.ground);
    style.setProperty("--safelight-text", around.text);
    style.setProperty("--safelight-quiet", `color-mix(in srgb, ${around.text} 62%, ${around.ground})`);
  }
  style.setProperty("--safelight-ring", "initial"); // the notebook around it has keys of its own
  const source = { ...embedded(manifest), picture: addressed(pictures, document.defaultView) };
  const main = document.createElement("main");
  document.body.append(main);
  main.append(new Viewer(document, source, { still: true, wheelNeedsFocus: true }).element);
}
