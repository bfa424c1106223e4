/** Maps keys to the viewer's commands. */

import { create } from "./elements.mjs";

const SHIFT_STEPS = 5;

/** Commands of `viewer.mjs` by key, with an argument where the command needs one. */
const COMMANDS = new Map([
  ["ArrowLeft", ["move", -1]],
  ["ArrowRight", ["move", 1]],
  ["ArrowUp", ["moveItem", -1]],
  ["ArrowDown", ["moveItem", 1]],
  ["Home", ["first"]],
  ["End", ["end"]],
  [" ", ["play"]],
  ["l", ["lock"]],
  ["p", ["pauseRun"]],
  ["k", ["keep"]],
  ["c", ["compare"]],
  ["b", ["pin"]],
  ["f", ["fullscreen"]],
  ["z", ["oneToOne"]],
  ["n", ["latents"]],
  ["s", ["save"]],
  ["i", ["figures"]],
  ["ContextMenu", ["menu"]],
  ["?", ["shortcuts"]],
  ["Escape", ["back"]],
]);

const DESCRIPTIONS = [
  ["← →", "previous step, next step; with Shift five steps"],
  ["Home End", "first step, newest step"],
  ["Space", "play or pause"],
  ["P", "pause the run after this step, or go on"],
  ["K K", "stop the run and keep this step as its result"],
  ["L", "lock this step, so that new steps do not replace it; unlock"],
  ["1 – 9", "select a run; 1 is the newest"],
  ["C", "compare with another run"],
  ["B", "compare this picture with others; Shift and click on the strip or a batch chooses it too"],
  ["↑ ↓", "previous picture, next picture of a batch"],
  ["wheel", "zoom, after a click on the picture"],
  ["Z", "one screen pixel per image pixel, and back"],
  ["N", "denoised or noisy latents, where both were copied"],
  ["F", "full window"],
  ["S", "save the picture"],
  ["I", "figures of this run: times, where it settled, cost"],
  ["menu key", "more actions; also Shift and F10"],
  ["Esc", "back"],
];

/** The command of a key and its argument, or null. @param {KeyboardEvent} event @returns {[string, number?] | null} */
export function commandOf(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  if (event.key === "F10" && event.shiftKey) return ["menu"];
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === " " && event.target.closest?.("button, summary")) return null; // activates the button
  if (/^[1-9]$/.test(key)) return ["run", Number(key)];
  const [name, count] = COMMANDS.get(key) ?? [];
  if (count !== undefined) return [name, event.shiftKey && name === "move" ? count * SHIFT_STEPS : count];
  return name ? [name] : null;
}

/** The list of shortcuts, which covers the picture; hidden at first. @param {Document} document */
export function shortcutsCard(document) {
  const rows = DESCRIPTIONS.flatMap(([key, does]) => [
    create(document, "dt", { textContent: key }),
    create(document, "dd", { textContent: does }),
  ]);
  return create(document, "div", { className: "keys over", role: "note", ariaLabel: "Keyboard shortcuts", hidden: true }, create(document, "dl", {}, ...rows));
}
