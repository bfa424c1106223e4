/** Gives the browser the file of a picture that the user drags away: onto another node, into another program. */

import { exportFileName, namedFile } from "./export.mjs";

export class DragOut {
  #window;
  #prepared = { address: "", file: null };

  /** @param {HTMLElement} viewer in which a picture cannot be dropped: the page would take it for one from elsewhere */
  constructor(viewer) {
    this.#window = viewer.ownerDocument.defaultView;
    let dragging = false;
    viewer.addEventListener("dragstart", () => (dragging = true));
    viewer.addEventListener("dragend", () => (dragging = false));
    for (const name of ["dragenter", "dragover", "drop"]) viewer.addEventListener(name, (event) => dragging && event.stopPropagation());
  }

  /**
   * Loads the file of a picture, because a drag may begin, and only takes what is loaded by then. Pages that take
   * addresses do without it.
   *
   * @param {import("./export.mjs").ShownPictures} shown @param {number} at place of the picture among the shown ones
   */
  async prepare({ exports: files = [] }, at) {
    const address = files[at];
    if (!address || address === this.#prepared.address) return;
    this.#prepared = { address, file: null };
    const { fetch, File } = this.#window;
    const answer = await fetch(address).catch(() => null);
    if (!answer?.ok) return;
    const blob = await answer.blob();
    const file = new File([blob], namedFile(answer.headers.get("Content-Disposition")), { type: blob.type });
    if (address === this.#prepared.address) this.#prepared = { address, file };
  }

  /** Fills a drag that begins. @param {DragEvent} event @param {import("./export.mjs").ShownPictures} shown @param {number} at as for `prepare` */
  start({ dataTransfer }, shown, at) {
    const address = shown.exports?.[at] ?? shown.addresses[at];
    const { file } = address === this.#prepared.address ? this.#prepared : { file: null };
    const url = new URL(address, this.#window.location.href);
    const name = file?.name ?? exportFileName(shown, shown.addresses[at]);
    if (shown.exports?.[at]) url.searchParams.set("filename", name); // ComfyUI's nodes name the file that they fetch by it
    dataTransfer.effectAllowed = "copy";
    dataTransfer.setData("text/uri-list", url.href);
    dataTransfer.setData("DownloadURL", `${file?.type ?? "image/png"}:${name}:${url.href}`); // for the desktop, in Chromium
    if (file) dataTransfer.items.add(file);
  }
}
