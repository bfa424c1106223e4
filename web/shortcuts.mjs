/** Maps keys to the viewer's commands. */

import { create, targetOf } from "./elements.mjs";
import { later, t } from "./language.mjs";

/** @typedef {[name: keyof import("./types.mjs").Commands, argument?: number]} Command */

const SHIFT_STEPS = 5;

/** Commands of `viewer.mjs` by key, with an argument where the command needs one. @type {Map<string, Command>} */
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
  ["← →", later("previous step, next step; with Shift five steps")],
  [later("Home End"), later("first step, newest step")],
  [later("Space"), later("play or pause")],
  ["P", later("pause the run after this step, or go on")],
  ["K K", later("stop the run and keep this step as its result")],
  ["L", later("lock this step, so that new steps do not replace it; unlock")],
  ["1 – 9", later("select a run; 1 is the newest")],
  ["C", later("compare with another run")],
  ["B", later("compare this picture with others; Shift and click on the strip or a batch chooses it too")],
  ["↑ ↓", later("previous picture, next picture of a batch")],
  [later("wheel"), later("zoom, after a click on the picture")],
  ["Z", later("one screen pixel per image pixel, and back")],
  ["N", later("denoised or noisy latents, where both were copied")],
  ["F", later("full window")],
  ["S", later("save the picture")],
  ["I", later("figures of this run: times, where it settled, cost")],
  [later("menu key"), later("more actions; also Shift and F10")],
  [later("Esc"), later("back")],
];

/** The command of a key and its argument, or null. @param {KeyboardEvent} event @returns {Command | null} */
export function commandOf(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  if (event.key === "F10" && event.shiftKey) return ["menu"];
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === " " && targetOf(event).closest?.("button, summary")) return null; // activates the button
  if (/^[1-9]$/.test(key)) return ["run", Number(key)];
  const [name, count] = COMMANDS.get(key) ?? [];
  if (!name) return null;
  return count === undefined ? [name] : [name, event.shiftKey && name === "move" ? count * SHIFT_STEPS : count];
}

/** The list of shortcuts, which covers the picture; hidden at first. @param {Document} document */
export function shortcutsCard(document) {
  const rows = DESCRIPTIONS.flatMap(([key, does]) => [
    create(document, "dt", { textContent: t(key) }),
    create(document, "dd", { textContent: t(does) }),
  ]);
  return create(document, "div", { className: "keys over", role: "note", ariaLabel: t("Keyboard shortcuts"), hidden: true }, create(document, "dl", {}, ...rows));
}
