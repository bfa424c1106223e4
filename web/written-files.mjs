/** Says what a run has written into the user's folder, copies the folder's path, and opens its files. */

import { create, windowOf } from "./elements.mjs";
import { later, plural, t } from "./language.mjs";

/** @typedef {import("./types.mjs").Manifest} Manifest */

/** @type {["sheet" | "animation" | "page", string][]} */
const PRODUCTS = [
  ["sheet", later("Open the contact sheet")],
  ["animation", later("Open the animation")],
  ["page", later("Open the page of this run")],
];

/** `12 files in output/safelight/steps_00012`; empty if the run has written none. @param {Manifest | null} manifest */
export function writtenLabel(manifest) {
  const { files, place } = manifest?.written ?? {};
  return files ? plural(files, "{count} file in {place}", "{count} files in {place}", { place }) : "";
}

/**
 * The entries of the menu for what a run has written.
 *
 * @param {Document} document
 * @param {import("./types.mjs").Source} source
 * @param {() => Promise<string>} copyPath copies the path of the folder, and returns the result in words
 * @returns {import("./action-menu.mjs").Actions}
 */
export function writtenActions(document, source, copyPath) {
  return ({ run }) => {
    const { written } = run.manifest ?? {};
    if (!written?.files) return [];
    const products = PRODUCTS.flatMap(([key, label]) => (written[key] && source.written ? [{ label, address: source.written(run.id, written[key]) }] : []));
    return [
      { label: t("Copy the path of the folder"), run: copyPath },
      ...products.map(({ label, address }) => ({ label: t(label), run: () => void windowOf(document).open(address, "_blank", "noopener") })),
    ];
  };
}

/**
 * Copies a text to the clipboard, also on a page over plain http from another machine.
 *
 * @param {HTMLElement} element of the viewer, which may be in the full window
 * @param {string} text
 * @returns {Promise<boolean>} whether the browser allowed it
 */
export async function copyText(element, text) {
  const document = element.ownerDocument;
  try {
    await windowOf(document).navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = create(document, "textarea", { value: text, className: "announcement", readOnly: true });
    element.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    element.focus({ preventScroll: true });
    return copied;
  }
}
