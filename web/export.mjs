/** Exports a picture from the viewer: to a file, to the clipboard, into a tab. */

import { parseFrameAddress } from "./animation-frames.mjs";
import { download, follow } from "./download.mjs";
import { create, windowOf } from "./elements.mjs";
import { loadImage } from "./image-cache.mjs";
import { plural, t } from "./language.mjs";
import { sentText } from "./sent-texts.mjs";

/** @typedef {import("./image-cache.mjs").Picture} Picture */

/**
 * @typedef {object} ShownPictures
 * @property {import("./types.mjs").Run} run
 * @property {import("./types.mjs").ManifestStep} step
 * @property {string[]} addresses of its pictures: several for a batch
 * @property {string[]} [exports] addresses of the same pictures as files to save, if the source has them
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

/** The file name in a header `Content-Disposition` of our server. @param {string | null} header */
export function namedFile(header) {
  const [, name] = /filename\*=UTF-8''([^;]+)/.exec(header ?? "") ?? [];
  return name ? decodeURIComponent(name) : "picture.png";
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

  /**
   * Saves the files as the source gives them. Without such files, the shown ones are saved unchanged, and a single frame
   * of a video as PNG.
   *
   * @param {ShownPictures} shown
   */
  async save(shown) {
    const { location } = windowOf(this.#document);
    /** @type {string[]} */
    const names = [];
    try {
      for (const [i, address] of shown.addresses.entries()) {
        const exported = shown.exports?.[i];
        names.push(await (exported ? this.#saveExport(exported) : this.#saveShown(address, exportFileName(shown, address))));
      }
    } catch (error) {
      return this.#notify(t("Not saved: {reason}", { reason: /** @type {Error} */ (error).message }));
    }
    const [name, ...others] = names;
    const saved = others.length ? plural(names.length, "Saved {count} picture", "Saved {count} pictures") : t("Saved {name}", { name });
    this.#notify(location.protocol === "file:" ? t("Opened in a tab") : saved);
  }

  /** Saves a file under the name that the server gives it. @param {string} address @returns {Promise<string>} the name */
  async #saveExport(address) {
    const { fetch } = windowOf(this.#document);
    const answer = await fetch(address).catch(() => null);
    if (!answer) throw new Error(t("the server cannot be reached. Try again"));
    if (!answer.ok) throw new Error(sentText((await answer.json().catch(() => null))?.error) || t("the server answered {status}", { status: answer.status }));
    const name = namedFile(answer.headers.get("Content-Disposition"));
    download(this.#document, await answer.blob(), name);
    return name;
  }

  /** @param {string} address @param {string} name */
  async #saveShown(address, name) {
    if (parseFrameAddress(address)) download(this.#document, await this.#png(await this.#images.get(address)), name);
    else follow(this.#document, address, name);
    return name;
  }

  /** Copies the picture, or the first of several. @param {ShownPictures} shown */
  async copy({ addresses: [address], exports: [exported] = [] }) {
    const { ClipboardItem, navigator } = windowOf(this.#document);
    const load = () => (exported ? loadImage(exported, this.#document) : this.#images.get(address));
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": load().then((image) => this.#png(image)) })]);
      this.#notify(t("Copied"));
    } catch {
      // A browser denies the clipboard to `file:` pages and to pages over plain http from another machine.
      this.#notify(t("Not copied: the browser forbids it on this page. Right-click the picture instead"));
    }
  }

  /** @param {ShownPictures} shown */
  openTab({ addresses: [address], exports: [exported] = [] }) {
    windowOf(this.#document).open(exported ?? parseFrameAddress(address)?.file ?? address, "_blank", "noopener");
  }

  /** @param {Picture | null} image @returns {Promise<Blob>} */
  async #png(image) {
    if (!image) throw new Error(t("no picture"));
    const canvas = create(this.#document, "canvas", imageSize(image));
    canvas.getContext("2d")?.drawImage(image, 0, 0);
    return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error(t("no picture")))), "image/png"));
  }
}

/** The size in pixels of an image or a canvas; 1 by 1 if there is none. @param {Picture | null} image */
export function imageSize(image) {
  const { naturalWidth = 0, naturalHeight = 0 } = /** @type {Partial<HTMLImageElement>} */ (image ?? {});
  return { width: naturalWidth || image?.width || 1, height: naturalHeight || image?.height || 1 };
}

/** @param {number} number @param {number} digits */
function padded(number, digits) {
  return String(number).padStart(digits, "0");
}
