/** Finds where a node is in a LiteGraph graph, in the terms of ComfyUI's server. */

const MAX_PAST_PLACES = 4;

/**
 * @typedef {object} Place
 * @property {string} workflow id of the workflow
 * @property {string} node execution id of the node, `6:2` in a subgraph
 *
 * @typedef {Place & {until: number}} PastPlace a place where a node had runs. `until` is the start of the newest of
 *   them, in milliseconds by the server's clock
 */

/**
 * The execution ids of a node. In a subgraph the ids of the surrounding nodes come first: `6:2`. A subgraph that is used
 * twice has each inner node once on the page and twice on the server, so a node can have several ids.
 *
 * @returns {string[]} empty for a node outside of any graph
 */
export function executionIds(node) {
  const root = node.graph?.rootGraph;
  if (!root) return [];
  return pathsTo(node.graph, root).map((path) => [...path, node.id].join(":"));
}

/** The current places of a node. @returns {Place[]} */
export function nodePlaces(node) {
  const workflow = node.graph?.rootGraph?.id;
  return workflow ? executionIds(node).map((id) => ({ workflow, node: id })) : [];
}

/** Validates the past places that a workflow contains, which may come from anywhere. @returns {PastPlace[]} */
export function readPastPlaces(value) {
  const isPlace = (place) => typeof place?.workflow === "string" && typeof place.node === "string" && Number.isFinite(place.until);
  return Array.isArray(value) ? value.filter(isPlace).slice(-MAX_PAST_PLACES) : [];
}

/**
 * The places of a node under former ids of its workflow: "Save as" gives a workflow a new id. A place with another node
 * id belongs to the node that this one was copied from.
 *
 * @param {PastPlace[]} past
 * @param {Place[]} current
 * @returns {PastPlace[]}
 */
export function formerPlaces(past, current) {
  return past.filter(({ workflow, node }) => current.some((place) => place.node === node && place.workflow !== workflow));
}

/**
 * Adds a place to the past places of a node after a run; returns the same array if nothing is new.
 *
 * @param {PastPlace[]} past
 * @param {Place} place
 * @param {number} until start of the node's newest run
 */
export function withPastPlace(past, { workflow, node }, until) {
  const isSame = (place) => place.workflow === workflow && place.node === node;
  if (past.some((place) => isSame(place) && place.until >= until)) return past;
  return [...past.filter((place) => !isSame(place)), { workflow, node, until }].slice(-MAX_PAST_PLACES);
}

// Compares ids, because Vue wraps graphs in proxies.
function pathsTo(target, graph, path = []) {
  if (graph.id === target.id) return [path];
  const holders = (graph.nodes ?? graph._nodes ?? []).filter((node) => node.subgraph);
  return holders.flatMap((node) => pathsTo(target, node.subgraph, [...path, node.id]));
}
