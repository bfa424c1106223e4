/** What keys and mouse do, for those who ask. */

import { make } from "./elements.mjs";

const KEYS = [
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

/** A list that lies over the picture; put away it is hidden. @param {Document} document */
export function keysCard(document) {
  const rows = KEYS.flatMap(([key, does]) => [
    make(document, "dt", { textContent: key }),
    make(document, "dd", { textContent: does }),
  ]);
  return make(document, "div", { className: "keys over", role: "note", ariaLabel: "Keys", hidden: true }, make(document, "dl", {}, ...rows));
}
