/** Where a node of a LiteGraph graph stands, in the words of the server. */

const MOST_STAYS = 4;

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

/** @returns {import("./run-store.mjs").Place[]} */
export function places(node) {
  const workflow = node.graph?.rootGraph?.id;
  return workflow ? executionIds(node).map((id) => ({ workflow, node: id })) : [];
}

/** What a node remembers, as far as it can be understood: a workflow may come from anywhere. @returns {Stay[]} */
export function readStays(kept) {
  const isStay = (stay) => typeof stay?.workflow === "string" && typeof stay.node === "string" && Number.isFinite(stay.until);
  return Array.isArray(kept) ? kept.filter(isStay).slice(-MOST_STAYS) : [];
}

/**
 * Where a node was when its workflow had another id: it gets a new one when it is saved under another name. The runs that
 * there were until then are the node's own.
 *
 * @param {Stay[]} stays that the node remembers
 * @param {import("./run-store.mjs").Place[]} now where it is
 * @returns {Stay[]} those where it had the id that it has
 */
export function formerPlaces(stays, now) {
  return stays.filter(({ workflow, node }) => now.some((place) => place.node === node && place.workflow !== workflow));
}

/**
 * What a node remembers once it has had a run; the same array if that is nothing new.
 *
 * @typedef {import("./run-store.mjs").Place & {until: number}} Stay
 * @param {Stay[]} stays
 * @param {import("./run-store.mjs").Place} place
 * @param {number} until when its newest run began
 */
export function withStay(stays, { workflow, node }, until) {
  const isHere = (stay) => stay.workflow === workflow && stay.node === node;
  if (stays.some((stay) => isHere(stay) && stay.until >= until)) return stays;
  return [...stays.filter((stay) => !isHere(stay)), { workflow, node, until }].slice(-MOST_STAYS);
}

// By id, not by identity: Vue hands out proxies of graphs.
function pathsTo(wanted, graph, path = []) {
  if (graph.id === wanted.id) return [path];
  const holders = (graph.nodes ?? graph._nodes ?? []).filter((node) => node.subgraph);
  return holders.flatMap((node) => pathsTo(wanted, node.subgraph, [...path, node.id]));
}
