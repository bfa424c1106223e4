/** Exports a picture from the viewer: to a file, to the clipboard, into a tab. */

import { parseFrameAddress } from "./animation-frames.mjs";
import { create } from "./elements.mjs";

const REVOKE_AFTER_MS = 60_000; // the browser has written the file by then

/**
 * @typedef {object} ShownPictures
 * @property {{id: string}} run
 * @property {{index: number}} step
 * @property {string[]} addresses of its pictures: several for a batch
 * @property {number | null} item the selected item of a batch, counted from 0; null: there is no choice
 */

/** The name of an exported file. @param {ShownPictures} shown @param {string} address one of `shown.addresses` */
export function exportFileName({ run, step, addresses, item }, address) {
  const single = parseFrameAddress(address);
  const type = single ? "png" : (/\.(\w+)(?:\?|$)/.exec(address)?.[1] ?? "png");
  const itemIndex = addresses.length > 1 ? addresses.indexOf(address) : item;
  const parts = [run.id.slice(0, 8), "step", padded(step.index, 4)];
  if (itemIndex !== null) parts.push("item", padded(itemIndex + 1, 2));
  if (single) parts.push("frame", padded(single.frame + 1, 4));
  return `${parts.join("_")}.${type}`;
}

export class ImageExport {
  #document;
  #images;
  #notify;

  /**
   * @param {Document} document
   * @param {import("./image-cache.mjs").ImageCache} images
   * @param {(text: string) => void} notify shows the result to the user
   */
  constructor(document, images, notify) {
    this.#document = document;
    this.#images = images;
    this.#notify = notify;
  }

  /** Saves the files unchanged. A single frame of a video is saved as PNG. @param {ShownPictures} shown */
  async save(shown) {
    const { location } = this.#document.defaultView;
    const names = shown.addresses.map((address) => exportFileName(shown, address));
    for (const [i, address] of shown.addresses.entries()) await this.#saveFile(address, names[i]);
    const saved = names.length > 1 ? `${names.length} pictures` : names[0];
    this.#notify(location.protocol === "file:" ? "Opened in a tab" : `Saved ${saved}`);
  }

  async #saveFile(address, download) {
    const { URL } = this.#document.defaultView;
    const blobAddress = parseFrameAddress(address) && URL.createObjectURL(await this.#png(address));
    // On a `file:` page a browser ignores `download` and opens the picture; `target` keeps it from replacing the page.
    create(this.#document, "a", { href: blobAddress || address, download, target: "_blank", rel: "noopener" }).click();
    if (blobAddress) setTimeout(() => URL.revokeObjectURL(blobAddress), REVOKE_AFTER_MS);
  }

  /** Copies the picture, or the first of several. @param {ShownPictures} shown */
  async copy({ addresses: [address] }) {
    const { ClipboardItem, navigator } = this.#document.defaultView;
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": this.#png(address) })]);
      this.#notify("Copied");
    } catch {
      // A browser denies the clipboard to `file:` pages and to pages over plain http from another machine.
      this.#notify("Not copied: the browser forbids it on this page. Right-click the picture instead");
    }
  }

  /** @param {ShownPictures} shown */
  openTab({ addresses: [address] }) {
    this.#document.defaultView.open(parseFrameAddress(address)?.file ?? address, "_blank", "noopener");
  }

  async #png(address) {
    const image = await this.#images.get(address);
    const canvas = create(this.#document, "canvas", imageSize(image));
    canvas.getContext("2d").drawImage(image, 0, 0);
    return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/png"));
  }
}

/** The size in pixels of an image or a canvas; 1 by 1 if there is none. */
export function imageSize(image) {
  return { width: image?.naturalWidth || image?.width || 1, height: image?.naturalHeight || image?.height || 1 };
}

function padded(number, digits) {
  return String(number).padStart(digits, "0");
}
