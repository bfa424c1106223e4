/** Puts the viewer above the inputs of its node, and hides folded inputs. The order of the widgets stays, as saved workflows need it. */

import { create } from "./elements.mjs";

const FIRST = "safelight-first";
const FOLDED = "safelight-folded";

const NO_ROOM = () => [0, -4]; // LiteGraph adds 4 px below each widget

/** Vue nodes lay out their rows in a grid, the first ones (frontend 1.27) below each other. A row with a linked input stays visible. */
const STYLE = `
.dom-widget, .lg-node-widgets { --safelight-settings: flex; }
/* While the canvas moves, the frontend takes the viewer for hidden, see moving-canvas.mjs, and a layer is painted once. */
.dom-widget:has(> [data-safelight][data-moving]) { display: block !important; will-change: transform !important; }
.lg-node-widgets > .${FIRST} { order: -1; }
.lg-node-widgets:has(> .${FOLDED}) > .lg-widget-container:not(:has(.lg-slot--connected)) { display: none; }
.lg-node-widgets:has(.${FIRST}) { grid-template-rows: auto !important; grid-auto-rows: min-content; flex: 1; }
.lg-node-widget:has(.${FIRST}) { order: -1; }
.lg-node-widgets:has(.${FOLDED}) > .lg-node-widget:not(:has(.${FIRST}, .lg-slot--connected)) { display: none; }
`;

/** Adds the rules for Vue nodes to the page. @param {Document} document */
export function addLayoutStyle(document) {
  document.head.append(create(document, "style", { textContent: STYLE }));
}

/** @typedef {ComfyUI.Node} Node @typedef {ComfyUI.Widget} Widget @typedef {ComfyUI.DomWidget} DomWidget */

/** Whether the frontend asks a node for its rows, and notices which are hidden. Frontend 1.27 does not. @param {Node} node */
export function asksForRows(node) {
  return Boolean(node.getLayoutWidgets);
}

/**
 * Lays out a widget of a node before its other widgets; in LiteGraph of frontend 1.27 it stays the last one.
 *
 * @param {Node} node @param {DomWidget} widget
 */
export function putFirst(node, widget) {
  widget.element.classList.add(FIRST);
  const { getLayoutWidgets } = node;
  if (!getLayoutWidgets) return;
  node.getLayoutWidgets = function () {
    const widgets = getLayoutWidgets.call(this);
    return widgets.includes(widget) ? [widget, ...widgets.filter((other) => other !== widget)] : widgets;
  };
}

/**
 * Hides the row of a widget, or shows it again.
 *
 * @param {Node} node @param {Widget} widget
 * @param {boolean} hasNoEffect the properties panel does not show it either
 * @param {boolean} hidden
 */
export function setRowHidden(node, widget, hasNoEffect, hidden) {
  widget.hidden = hidden;
  if (asksForRows(node)) widget.options.hidden = hasNoEffect;
  else if (hidden) widget.computeSize = NO_ROOM; // else LiteGraph leaves a gap
  else if (widget.computeSize === NO_ROOM) delete widget.computeSize;
}

/** Marks a widget whose node has its inputs folded away. @param {DomWidget} widget @param {boolean} folded */
export function setFolded(widget, folded) {
  widget.element.classList.toggle(FOLDED, folded);
}
