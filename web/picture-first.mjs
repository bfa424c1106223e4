/** Puts the viewer above the inputs of its node, and hides folded inputs. The order of the widgets stays, as saved workflows need it. */

import { create } from "./elements.mjs";

const FIRST = "safelight-first";
const FOLDED = "safelight-folded";

/** Vue nodes lay out their rows in a grid. A row with a linked input stays visible. */
const STYLE = `
.dom-widget, .lg-node-widgets { --safelight-settings: flex; }
/* With the frontend's own will-change, the browser would paint a viewer for each frame in which LiteGraph moves it. */
.dom-widget:has(> [data-safelight][data-moving]) { will-change: transform !important; }
.lg-node-widgets:has(.${FIRST}) { grid-template-rows: auto !important; grid-auto-rows: min-content; flex: 1; }
.lg-node-widget:has(.${FIRST}) { order: -1; }
.lg-node-widgets:has(.${FOLDED}) > .lg-node-widget:not(:has(.${FIRST}, .lg-slot--connected)) { display: none; }
`;

/** Adds the rules for Vue nodes to the page. @param {Document} document */
export function addLayoutStyle(document) {
  document.head.append(create(document, "style", { textContent: STYLE }));
}

/** Whether inputs of a node can be hidden. Frontend 1.27 would leave a gap, or never show them again. */
export function canFold(node) {
  return Boolean(node.getLayoutWidgets);
}

/** Lays out a widget of a node before its other widgets. */
export function putFirst(node, widget) {
  if (!canFold(node)) return;
  widget.element.classList.add(FIRST);
  const { getLayoutWidgets } = node;
  node.getLayoutWidgets = function () {
    const widgets = getLayoutWidgets.call(this);
    return widgets.includes(widget) ? [widget, ...widgets.filter((other) => other !== widget)] : widgets;
  };
}

/** Marks a widget whose node has its inputs folded away. */
export function setFolded(widget, folded) {
  widget.element.classList.toggle(FOLDED, folded);
}
