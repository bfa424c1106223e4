/** Gives a picture that the user drags out of a viewer to the node on which it is dropped. Older frontends give nodes only files from the disk. */

import { t } from "./language.mjs";

/**
 * @param {Document} document
 * @param {ComfyUI.Canvas} canvas
 * @param {(text: string) => void} notify shows why a picture could not be given
 */
export function giveDropsToNodes(document, canvas, notify) {
  let isOurs = false;
  document.addEventListener("dragstart", (event) => void (isOurs = passes(event, (part) => part.dataset?.safelight !== undefined)), true);
  document.addEventListener("dragend", () => void (isOurs = false), true);
  // Before the frontend's own listener, which opens the workflow of a picture that no node takes.
  document.addEventListener("drop", (event) => isOurs && drop(event, canvas, notify), true);
}

/** @param {DragEvent} event @param {ComfyUI.Canvas} canvas @param {(text: string) => void} notify */
function drop(event, canvas, notify) {
  if (!event.dataTransfer || !passes(event, (part) => part === canvas.canvas || part.dataset?.nodeId !== undefined)) return;
  const node = canvas.graph?.getNodeOnPos?.(...canvas.convertEventToCanvasOffset(event));
  if (!node?.pasteFiles || node.onDragOver?.(event)) return; // newer frontends give it the address
  event.preventDefault();
  event.stopImmediatePropagation();
  give(node, event.dataTransfer.getData("text/uri-list")).catch(({ message }) => notify(t("Not done: {reason}", { reason: message })));
}

/** @param {ComfyUI.Node} node @param {string} address */
async function give(node, address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(t("the picture is gone"));
  const content = await answer.blob();
  const { pathname, searchParams } = new URL(address);
  const name = searchParams.get("filename") ?? pathname.split("/").at(-1) ?? "";
  node.pasteFiles?.([new File([content], name, { type: content.type })]);
}

/** Whether an event passes an element. @param {Event} event @param {(part: HTMLElement) => boolean} test */
function passes(event, test) {
  return event.composedPath().some((part) => test(/** @type {HTMLElement} */ (part)));
}
