/** Takes a picture out of the viewer: as a file, to the clipboard, into a tab. */

import { make } from "./elements.mjs";
import { frameOf } from "./frames.mjs";

const LET_GO_MS = 60_000; // by when a browser has written the file

/** @typedef {{run: {id: string}, step: {index: number}, address: string}} Shown */

/** What a saved picture is called. @param {Shown} shown */
export function nameOfFile({ run, step, address }) {
  const one = frameOf(address);
  const type = one ? "png" : (/\.(\w+)(?:\?|$)/.exec(address)?.[1] ?? "png");
  const frame = one ? `_frame_${padded(one.frame + 1)}` : "";
  return `${run.id.slice(0, 8)}_step_${padded(step.index)}${frame}.${type}`;
}

export class Taking {
  #document;
  #pictures;
  #say;

  /**
   * @param {Document} document
   * @param {import("./pictures.mjs").Pictures} pictures
   * @param {(text: string) => void} say what came of it
   */
  constructor(document, pictures, say) {
    this.#document = document;
    this.#pictures = pictures;
    this.#say = say;
  }

  /** Saves the file as it is; of a single frame of a video, the frame. @param {Shown} shown */
  async save(shown) {
    const { URL, location } = this.#document.defaultView;
    const download = nameOfFile(shown);
    const made = frameOf(shown.address) && URL.createObjectURL(await this.#png(shown.address));
    // To a page from the disk a browser gives no download: there, what is asked for is opened, and not in place of the page.
    make(this.#document, "a", { href: made || shown.address, download, target: "_blank", rel: "noopener" }).click();
    if (made) setTimeout(() => URL.revokeObjectURL(made), LET_GO_MS);
    this.#say(location.protocol === "file:" ? "Opened in a tab" : `Saved ${download}`);
  }

  async copy({ address }) {
    const { ClipboardItem, navigator } = this.#document.defaultView;
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": this.#png(address) })]);
      this.#say("Copied");
    } catch {
      this.#say("This browser does not let this page copy pictures");
    }
  }

  openTab({ address }) {
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

function padded(number) {
  return String(number).padStart(4, "0");
}
