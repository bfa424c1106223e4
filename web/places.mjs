/** Where a node of a LiteGraph graph stands, in the words of the server. */

/**
 * The execution ids of a node: its id, in a subgraph after those of the nodes that hold it, `6:2`. A subgraph that is
 * used twice has its inner nodes once on the page and twice on the server, hence several.
 *
 * @returns {string[]} none for a node that is in no graph
 */
export function executionIds(node) {
  const root = node.graph?.rootGraph;
  if (!root) return [];
  return pathsTo(node.graph, root).map((path) => [...path, node.id].join(":"));
}

/** @returns {import("./store.mjs").Place[]} */
export function places(node) {
  const workflow = node.graph?.rootGraph?.id;
  return workflow ? executionIds(node).map((id) => ({ workflow, node: id })) : [];
}

// By id, not by identity: Vue hands out proxies of graphs.
function pathsTo(wanted, graph, path = []) {
  if (graph.id === wanted.id) return [path];
  const holders = (graph.nodes ?? graph._nodes ?? []).filter((node) => node.subgraph);
  return holders.flatMap((node) => pathsTo(wanted, node.subgraph, [...path, node.id]));
}
