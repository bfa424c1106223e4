/** Gives the address of a picture that the user drags away: onto another node, into another program. */

import { parseFrameAddress } from "./animation-frames.mjs";
import { windowOf } from "./elements.mjs";
import { exportFileName } from "./export.mjs";

/**
 * The name of the file that a picture becomes elsewhere: as the server names it when it is saved, if that is known.
 *
 * @param {import("./export.mjs").ShownPictures} shown @param {number} at place of the picture among the shown ones
 */
export function draggedName(shown, at) {
  const { run, addresses, exports: files } = shown;
  const { prefix, sampler } = run.manifest ?? {};
  if (!files?.[at] || !prefix) return exportFileName(shown, addresses[at]);
  const single = parseFrameAddress(addresses[at]);
  const [stem] = (single?.file ?? addresses[at]).split("?")[0].replace(/^.*\//s, "").split(".");
  const frame = single ? [`frame_${String(single.frame + 1).padStart(4, "0")}`] : [];
  return `${[prefix, ...(sampler?.seed == null ? [] : [`seed${sampler.seed}`]), stem, ...frame].join("_")}.png`;
}

export class DragOut {
  #window;

  /** @param {HTMLElement} viewer in which a picture cannot be dropped: the page would take it for one from elsewhere */
  constructor(viewer) {
    this.#window = windowOf(viewer.ownerDocument);
    let dragging = false;
    viewer.addEventListener("dragstart", () => (dragging = true));
    viewer.addEventListener("dragend", () => (dragging = false));
    for (const name of ["dragenter", "dragover", "drop"]) viewer.addEventListener(name, (event) => dragging && event.stopPropagation());
  }

  /**
   * Fills a drag that begins. Not with a file: browsers drop files only if they are on the disk.
   *
   * @param {DragEvent} event @param {import("./export.mjs").ShownPictures} shown @param {number} at as for `draggedName`
   */
  start({ dataTransfer }, shown, at) {
    const { file } = parseFrameAddress(shown.addresses[at]) ?? {};
    const url = new URL(shown.exports?.[at] ?? file ?? shown.addresses[at], this.#window.location.href);
    const name = draggedName(shown, at);
    if (shown.exports?.[at]) url.searchParams.set("filename", name); // ComfyUI's nodes name the file that they fetch by it
    if (!dataTransfer) return;
    dataTransfer.effectAllowed = "copy";
    dataTransfer.setData("text/uri-list", url.href);
    dataTransfer.setData("DownloadURL", `image/png:${name}:${url.href}`); // for the desktop, in Chromium
  }
}
