/** Finds the widgets on the nodes of a subgraph that stand for an input of a node in it. */

import { subgraphNodes } from "./node-place.mjs";

/**
 * The widgets that the input of a node gets its value from. ComfyUI gives them a copy of the input's options.
 *
 * @param {ComfyUI.Node} node of LiteGraph @param {string} name of the input
 * @returns {ComfyUI.Widget[]} empty for an input that is not linked to an input of its subgraph
 */
export function promotedWidgets(node, name) {
  const { graph } = node;
  const input = node.inputs?.find(({ widget }) => widget?.name === name);
  const link = input && graph?.inputNode ? graph.getLink?.(input.link) : null;
  if (!graph || !link || link.origin_id !== graph.inputNode?.id) return [];
  const promoted = graph.inputs[link.origin_slot]?.name;
  const holders = subgraphNodes(graph.rootGraph).filter(({ subgraph }) => subgraph.id === graph.id);
  return holders.flatMap(({ widgets = [] }) => widgets.filter((widget) => widget.name === promoted));
}
