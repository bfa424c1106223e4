/** Decodes single frames of an animated picture, where the browser can do that. */

import { create } from "./elements.mjs";

const MAX_OPEN_FILES = 2; // one for each of two compared runs
const FRAME_FRAGMENT = /#frame=(\d+)$/;

/**
 * Whether this page can decode frames. It needs ImageDecoder and the file's bytes, which a `file:` page cannot read.
 *
 * @param {{isSecureContext?: boolean, ImageDecoder?: unknown, location?: {protocol: string}}} window
 */
export function canDecodeFrames({ isSecureContext, ImageDecoder, location }) {
  return Boolean(isSecureContext && ImageDecoder && /^https?:$/.test(location?.protocol ?? ""));
}

/** The address of one frame of an animated picture, counted from 0. @param {string} address @param {number} frame */
export function frameAddress(address, frame) {
  return `${address}#frame=${frame}`;
}

/** The file and the frame that an address names; null for the address of a whole picture. @param {string} address */
export function parseFrameAddress(address) {
  const match = FRAME_FRAGMENT.exec(address);
  return match && { file: address.slice(0, -match[0].length), frame: Number(match[1]) };
}

/**
 * @typedef {import("./image-cache.mjs").Picture} Picture
 * @typedef {{decoder: Promise<ImageDecoder>, busy: Promise<unknown> | null}} OpenFile
 */

export class AnimationFrames {
  /** Whether this browser can decode frames; false after the first failure. */
  supported;
  #window;
  /** @type {Map<string, OpenFile>} */ #files = new Map(); // by address, the most recently used last

  /** @param {Window & typeof globalThis} window */
  constructor(window) {
    this.#window = window;
    this.supported = canDecodeFrames(window);
  }

  /**
   * The frame that an address names. Whole pictures, and files that cannot be decoded, come from `loadWhole`.
   *
   * @param {string} address @param {(address: string) => Promise<Picture>} loadWhole
   * @returns {Promise<Picture>}
   */
  async load(address, loadWhole) {
    const named = parseFrameAddress(address);
    if (!named) return loadWhole(address);
    return this.get(named.file, named.frame).catch(() => {
      this.supported = false;
      return loadWhole(named.file);
    });
  }

  /**
   * A frame, counted from 0. If the file has fewer, its last one: an encoder may merge equal frames.
   *
   * @param {string} file @param {number} frame
   * @returns {Promise<Picture>}
   */
  get(file, frame) {
    const opened = this.#open(file);
    const drawn = opened.decoder.then((decoder) => this.#draw(decoder, frame));
    opened.busy = Promise.allSettled([opened.busy, drawn]);
    return drawn;
  }

  /** @param {ImageDecoder} decoder @param {number} frame */
  async #draw(decoder, frame) {
    const { frameCount = 1 } = decoder.tracks.selectedTrack ?? {};
    const { image } = await decoder.decode({ frameIndex: Math.min(frame, frameCount - 1) });
    const canvas = create(this.#window.document, "canvas", { width: image.displayWidth, height: image.displayHeight });
    canvas.getContext("2d")?.drawImage(image, 0, 0);
    image.close();
    return canvas;
  }

  /** @param {string} file @returns {OpenFile} */
  #open(file) {
    const opened = this.#files.get(file) ?? { decoder: this.#read(file), busy: null };
    this.#files.delete(file);
    this.#files.set(file, opened);
    if (this.#files.size > MAX_OPEN_FILES) {
      const [[oldest, { busy, decoder }]] = this.#files;
      this.#files.delete(oldest);
      Promise.resolve(busy).then(() => decoder).then((decoder) => decoder.close()).catch(() => {}); // a failed read leaves nothing to close
    }
    return opened;
  }

  /** @param {string} file */
  async #read(file) {
    const { fetch, ImageDecoder } = this.#window;
    const reply = await fetch(file); // from the browser's cache
    const decoder = new ImageDecoder({ data: await reply.arrayBuffer(), type: reply.headers.get("Content-Type") ?? "" });
    await decoder.tracks.ready;
    return decoder;
  }
}
