/** Single frames of an animated picture, where the browser can take it apart. */

import { make } from "./elements.mjs";

const OPEN = 2; // files that are held taken apart: of two runs that are compared
const FRAGMENT = /#frame=(\d+)$/;

/** Whether this page may and can: there must be a decoder, and the file's bytes, which no page from the disk gets. */
export function canTakeApart({ isSecureContext, ImageDecoder, location }) {
  return Boolean(isSecureContext && ImageDecoder && /^https?:$/.test(location?.protocol));
}

/** The address of one frame of an animated picture. */
export function frameAddress(address, frame) {
  return `${address}#frame=${frame}`;
}

/** Which frame of which picture an address means; null for a picture as a whole. */
export function frameOf(address) {
  const [fragment, frame] = FRAGMENT.exec(address) ?? [];
  return fragment ? { file: address.slice(0, -fragment.length), frame: Number(frame) } : null;
}

export class Frames {
  /** Whether this browser takes pictures apart, as far as is known. */
  able;
  #window;
  #open = new Map(); // by address, the one used last is the last

  /** @param {Window} window */
  constructor(window) {
    this.#window = window;
    this.able = canTakeApart(window);
  }

  /** What an address means: a picture as `load` loads it, or a frame of it; the whole where it cannot be taken apart. */
  async load(address, load) {
    const one = frameOf(address);
    if (!one) return load(address);
    return this.get(one.file, one.frame).catch(() => {
      this.able = false; // of this kind of picture, no more than other browsers do
      return load(one.file);
    });
  }

  /** A frame, counted from 0, or the last one if there are fewer: equal frames may have been written as one. */
  get(file, frame) {
    const held = this.#hold(file);
    const drawn = held.decoder.then((decoder) => this.#draw(decoder, frame));
    held.busy = Promise.allSettled([held.busy, drawn]);
    return drawn;
  }

  async #draw(decoder, frame) {
    const { frameCount } = decoder.tracks.selectedTrack;
    const { image } = await decoder.decode({ frameIndex: Math.min(frame, frameCount - 1) });
    const canvas = make(this.#window.document, "canvas", { width: image.displayWidth, height: image.displayHeight });
    canvas.getContext("2d").drawImage(image, 0, 0);
    image.close();
    return canvas;
  }

  #hold(file) {
    const held = this.#open.get(file) ?? { decoder: this.#read(file), busy: null };
    this.#open.delete(file);
    this.#open.set(file, held);
    if (this.#open.size > OPEN) {
      const [oldest, its] = this.#open.entries().next().value;
      this.#open.delete(oldest);
      its.busy.then(() => its.decoder).then((decoder) => decoder.close()).catch(() => {}); // it was none
    }
    return held;
  }

  async #read(file) {
    const { fetch, ImageDecoder } = this.#window;
    const reply = await fetch(file); // the browser has it by now
    const decoder = new ImageDecoder({ data: await reply.arrayBuffer(), type: reply.headers.get("Content-Type") });
    await decoder.tracks.ready;
    return decoder;
  }
}
