/** What the keys are for. */

import { make } from "./elements.mjs";

const FAR = 5; // steps

/** What a key asks for, by name; with a number where there are several of a kind. */
const WISHES = new Map([
  ["ArrowLeft", ["travel", -1]],
  ["ArrowRight", ["travel", 1]],
  ["Home", ["first"]],
  ["End", ["end"]],
  [" ", ["play"]],
  ["l", ["hold"]],
  ["c", ["compare"]],
  ["f", ["full"]],
  ["z", ["oneToOne"]],
  ["s", ["save"]],
  ["?", ["keys"]],
  ["Escape", ["back"]],
]);

const SAID = [
  ["← →", "a step back, a step on; with Shift five"],
  ["Home End", "the first step, the newest"],
  ["Space", "play or pause"],
  ["L", "hold this step, whatever comes; let go"],
  ["1 – 9", "a run, the newest is 1"],
  ["C", "compare with another run"],
  ["wheel", "zoom, after a click into the picture"],
  ["Z", "one to one, and back"],
  ["F", "full window"],
  ["S", "save the picture"],
  ["Esc", "back"],
];

/** What a key asks for: a name and perhaps a number. @param {KeyboardEvent} event @returns {[string, number?] | null} */
export function wishOf(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === " " && event.target.closest?.("button, summary")) return null; // it is theirs
  if (/^[1-9]$/.test(key)) return ["run", Number(key)];
  const [name, by] = WISHES.get(key) ?? [];
  if (by !== undefined) return [name, event.shiftKey ? by * FAR : by];
  return name ? [name] : null;
}

/** A list that lies over the picture; put away it is hidden. @param {Document} document */
export function keysCard(document) {
  const rows = SAID.flatMap(([key, does]) => [
    make(document, "dt", { textContent: key }),
    make(document, "dd", { textContent: does }),
  ]);
  return make(document, "div", { className: "keys over", role: "note", ariaLabel: "Keys", hidden: true }, make(document, "dl", {}, ...rows));
}
