/** Starts the page of one run that contains its pictures, for a notebook cell, which has no folder. */

import { useBrowserLanguage } from "./page-language.mjs";
import { pageData, windowOf } from "./elements.mjs";
import { embeddedSource } from "./page.mjs";
import { Viewer } from "./viewer.mjs";

/** @type {Record<string, string>} */
const TYPES = { png: "image/png", webp: "image/webp", jpg: "image/jpeg" };
const TRANSPARENT = /^transparent$|^rgba\(.*, 0\)$/;

/**
 * Gives the address of a picture. Each address is created when first asked for; a browser can open it in a tab and save
 * it under its file name.
 *
 * @param {Record<string, string>} pictures in base64, by file name
 * @param {Pick<Window & typeof globalThis, "URL" | "Blob" | "atob">} window
 * @returns {(id: string, file: string) => string} empty for an unknown file
 */
export function embeddedPictures(pictures, { URL, Blob, atob }) {
  /** @type {Map<string, string>} */
  const addresses = new Map();
  return (id, file) => {
    if (!addresses.has(file) && pictures[file] !== undefined) {
      const bytes = Uint8Array.from(atob(pictures[file]), (character) => character.charCodeAt(0));
      const blob = new Blob([bytes], { type: TYPES[file.split(".").at(-1) ?? ""] ?? "" });
      addresses.set(file, `${URL.createObjectURL(blob)}#${encodeURIComponent(file)}`);
    }
    return addresses.get(file) ?? "";
  };
}

/**
 * The colors around the page's frame; null if there is no frame or no color. A notebook's theme may differ from the
 * browser's color scheme.
 *
 * @param {Pick<Window, "frameElement">} window @returns {{ground: string, text: string} | null}
 */
export function surroundingColors({ frameElement }) {
  if (!frameElement) return null;
  /** @param {Element} element */
  const styleOf = (element) => windowOf(element.ownerDocument).getComputedStyle(element);
  for (let parent = frameElement.parentElement; parent; parent = parent.parentElement) {
    const { backgroundColor } = styleOf(parent);
    if (!TRANSPARENT.test(backgroundColor)) return { ground: backgroundColor, text: styleOf(frameElement.parentElement ?? parent).color };
  }
  return null;
}

/** Starts the page, whose data are a manifest and pictures. @param {Document} document */
export async function start(document) {
  await useBrowserLanguage(document);
  const { manifest, pictures } = pageData(document);
  const { style } = document.documentElement;
  const colors = surroundingColors(windowOf(document));
  if (colors) {
    style.setProperty("--safelight-ground", colors.ground);
    style.setProperty("--safelight-text", colors.text);
    style.setProperty("--safelight-quiet", `color-mix(in srgb, ${colors.text} 62%, ${colors.ground})`);
  }
  style.setProperty("--safelight-ring", "initial"); // shows whether the viewer or the notebook has the keyboard focus
  const source = { ...embeddedSource([manifest]), picture: embeddedPictures(pictures, windowOf(document)) };
  const main = document.createElement("main");
  document.body.append(main);
  main.append(new Viewer(document, source, { still: true, wheelNeedsFocus: true }).element);
}
