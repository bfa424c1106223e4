/** Takes a picture out of the viewer: as a file, to the clipboard, into a tab. */

import { make } from "./elements.mjs";
import { frameOf } from "./animation-frames.mjs";

const LET_GO_MS = 60_000; // by when a browser has written the file

/**
 * @typedef {object} Shown
 * @property {{id: string}} run
 * @property {{index: number}} step
 * @property {string[]} addresses of its pictures: several of a batch
 * @property {number | null} item which of a batch it is, counted from 0, where it is one of several
 */

/** What a saved picture is called. @param {Shown} shown @param {string} address one of them */
export function nameOfFile({ run, step, addresses, item }, address) {
  const one = frameOf(address);
  const type = one ? "png" : (/\.(\w+)(?:\?|$)/.exec(address)?.[1] ?? "png");
  const which = addresses.length > 1 ? addresses.indexOf(address) : item;
  const parts = [run.id.slice(0, 8), "step", padded(step.index, 4)];
  if (which !== null) parts.push("item", padded(which + 1, 2));
  if (one) parts.push("frame", padded(one.frame + 1, 4));
  return `${parts.join("_")}.${type}`;
}

export class Taking {
  #document;
  #pictures;
  #say;

  /**
   * @param {Document} document
   * @param {import("./image-cache.mjs").Pictures} pictures
   * @param {(text: string) => void} say what came of it
   */
  constructor(document, pictures, say) {
    this.#document = document;
    this.#pictures = pictures;
    this.#say = say;
  }

  /** Saves the files as they are; of a single frame of a video, the frame. @param {Shown} shown */
  async save(shown) {
    const { location } = this.#document.defaultView;
    const names = shown.addresses.map((address) => nameOfFile(shown, address));
    for (const [i, address] of shown.addresses.entries()) await this.#saveOne(address, names[i]);
    const saved = names.length > 1 ? `${names.length} pictures` : names[0];
    this.#say(location.protocol === "file:" ? "Opened in a tab" : `Saved ${saved}`);
  }

  async #saveOne(address, download) {
    const { URL } = this.#document.defaultView;
    const made = frameOf(address) && URL.createObjectURL(await this.#png(address));
    // To a page from the disk a browser gives no download: there, what is asked for is opened, and not in place of the page.
    make(this.#document, "a", { href: made || address, download, target: "_blank", rel: "noopener" }).click();
    if (made) setTimeout(() => URL.revokeObjectURL(made), LET_GO_MS);
  }

  /** Copies the picture, or the first one. @param {Shown} shown */
  async copy({ addresses: [address] }) {
    const { ClipboardItem, navigator } = this.#document.defaultView;
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": this.#png(address) })]);
      this.#say("Copied");
    } catch {
      // From the disk, or over plain http from elsewhere, a page may not; whoever sits before it may.
      this.#say("This page may not copy; right-click the picture instead");
    }
  }

  /** @param {Shown} shown */
  openTab({ addresses: [address] }) {
    this.#document.defaultView.open(frameOf(address)?.file ?? address, "_blank", "noopener");
  }

  async #png(address) {
    const picture = await this.#pictures.get(address);
    const canvas = make(this.#document, "canvas", sizeOf(picture));
    canvas.getContext("2d").drawImage(picture, 0, 0);
    return new Promise((done, fail) => canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error("no picture"))), "image/png"));
  }
}

/** Of a picture, or of a frame that is drawn on a canvas. */
export function sizeOf(picture) {
  return { width: picture?.naturalWidth || picture?.width || 1, height: picture?.naturalHeight || picture?.height || 1 };
}

function padded(number, digits) {
  return String(number).padStart(digits, "0");
}
