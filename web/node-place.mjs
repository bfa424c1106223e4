/** Finds where a node is in a LiteGraph graph, in the terms of ComfyUI's server. */

const MAX_PAST_PLACES = 8;
export const EMPTY_WORKFLOW = "00000000-0000-0000-0000-000000000000"; // the id of a graph after "Clear Workflow"
export const WORKFLOW_KEY = "safelight_workflow"; // in `extra` of such a graph; the server reads it too

/**
 * @typedef {ComfyUI.Node} Node
 * @typedef {ComfyUI.Graph} Graph
 * @typedef {Node & {subgraph: Graph}} SubgraphNode a node that holds a subgraph
 *
 * @typedef {object} Place
 * @property {string} workflow id of the workflow, see `workflowOf`
 * @property {string} node execution id of the node, `6:2` in a subgraph
 *
 * @typedef {Place & {until: number, now?: string}} PastPlace a place where a node had runs. `until` is the start of the
 *   newest of them, in milliseconds by the server's clock. `now` is the id that the node got when it was moved
 */

/**
 * The execution ids of a node. In a subgraph the ids of the surrounding nodes come first: `6:2`. A subgraph that is used
 * twice has each inner node once on the page and twice on the server, so a node can have several ids.
 *
 * @param {Node} node
 * @returns {string[]} empty for a node outside of any graph
 */
export function executionIds(node) {
  const root = node.graph?.rootGraph;
  if (!node.graph || !root) return [];
  return pathsTo(node.graph, root).map((path) => [...path, node.id].join(":"));
}

/** The id of the workflow of a node: that of its graph or, if this is the empty one, the id that we gave it. @param {Node} node */
export function workflowOf(node) {
  const { id, extra } = node.graph?.rootGraph ?? {};
  const given = extra?.[WORKFLOW_KEY];
  return id === EMPTY_WORKFLOW && typeof given === "string" ? given : id;
}

/**
 * Gives a graph with the empty id an id that no other has, in its `extra`. Its own id must stay: the frontend finds the
 * values of inputs by it.
 *
 * @param {Node} node
 * @returns {boolean} whether it had none
 */
export function giveWorkflowId(node) {
  const root = node.graph?.rootGraph;
  if (!root || workflowOf(node) !== EMPTY_WORKFLOW) return false;
  const id = randomHex();
  root.extra = { ...root.extra, [WORKFLOW_KEY]: id };
  return true;
}

function randomHex() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // `randomUUID` is missing on pages without HTTPS
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * A saved workflow under a new id: Vue nodes show the values of an open workflow in every one with the same id. Its nodes
 * of a type show the runs that they had.
 *
 * @param {ComfyUI.SavedWorkflow} workflow as saved @param {string} type @param {string} property of a node, with its past places
 * @param {number} until start of the newest of these runs
 */
export function copyOfWorkflow(workflow, type, property, until) {
  const hex = randomHex();
  const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
  const given = workflow.extra?.[WORKFLOW_KEY];
  const former = workflow.id === EMPTY_WORKFLOW && typeof given === "string" ? given : workflow.id;
  const nodes = workflow.nodes?.map((node) => {
    if (node.type !== type || typeof former !== "string") return node;
    const past = withPastPlace(readPastPlaces(node.properties?.[property]), { workflow: former, node: String(node.id) }, until);
    return { ...node, properties: { ...node.properties, [property]: past } };
  });
  return { ...workflow, id, nodes };
}

/** The current places of a node. @param {Node} node @returns {Place[]} */
export function nodePlaces(node) {
  const workflow = workflowOf(node);
  return workflow ? executionIds(node).map((id) => ({ workflow, node: id })) : [];
}

/**
 * The places of all nodes of a type in a subgraph, at any depth, through one of the nodes that hold the subgraph.
 *
 * @param {SubgraphNode} holder @param {string} type
 * @returns {Place[]}
 */
export function innerPlaces(holder, type) {
  const workflow = workflowOf(holder);
  /** @param {Graph} graph @param {(string | number)[]} path @returns {(string | number)[][]} */
  const inside = (graph, path) =>
    nodesOf(graph).flatMap((node) => (node.subgraph ? inside(node.subgraph, [...path, node.id]) : node.type === type ? [[...path, node.id]] : []));
  return workflow ? executionIds(holder).flatMap((id) => inside(holder.subgraph, []).map((path) => ({ workflow, node: [id, ...path].join(":") }))) : [];
}

/** @param {Node} node @returns {node is SubgraphNode} */
const hasSubgraph = (node) => Boolean(node.subgraph);

/** All nodes in a graph that hold a subgraph, at any depth. @param {Graph | undefined} graph @returns {SubgraphNode[]} */
export function subgraphNodes(graph) {
  return nodesOf(graph).filter(hasSubgraph).flatMap((node) => [node, ...subgraphNodes(node.subgraph)]);
}

/** Whether a node holds a graph, directly or not. @param {SubgraphNode} holder @param {Graph} graph @returns {boolean} */
export function holdsGraph({ subgraph }, graph) {
  return subgraph.id === graph.id || nodesOf(subgraph).some((node) => hasSubgraph(node) && holdsGraph(node, graph));
}

/** Validates the past places that a workflow contains, which may come from anywhere. @param {unknown} value @returns {PastPlace[]} */
export function readPastPlaces(value) {
  /** @param {Partial<Record<keyof PastPlace, unknown>> | null} place */
  const isPlace = (place) =>
    typeof place?.workflow === "string" && typeof place.node === "string" && Number.isFinite(place.until) && ["string", "undefined"].includes(typeof place.now);
  return Array.isArray(value) ? value.filter(isPlace).slice(-MAX_PAST_PLACES) : [];
}

/**
 * The former places of a node: "Save as" gives a workflow a new id, and a subgraph gives a node a new id. A place with
 * another node id belongs to the node that this one was copied from, unless `now` names this one.
 *
 * @param {PastPlace[]} past
 * @param {Place[]} current
 * @returns {PastPlace[]}
 */
export function formerPlaces(past, current) {
  /** @param {Place} place */
  const isCurrent = (place) => current.some(({ workflow, node }) => node === place.node && workflow === place.workflow);
  return past.filter((place) => !isCurrent(place) && current.some(({ node }) => node === (place.now ?? place.node)));
}

/**
 * Finds out whether a node was moved into a subgraph or out of one: no node of its type is where it had runs. Returns
 * the same array if it was not.
 *
 * @param {PastPlace[]} past
 * @param {Node} node in a complete graph
 * @returns {PastPlace[]}
 */
export function followMove(past, node) {
  const [place] = nodePlaces(node);
  const ids = executionIds(node);
  /** @param {PastPlace} former */
  const hasLeft = (former) => {
    const id = former.now ?? former.node;
    return former.workflow === place.workflow && !ids.includes(id) && nodeAt(node.graph?.rootGraph, id)?.type !== node.type;
  };
  // The ids that it had in this workflow; in a former workflow it had the same.
  const left = new Set(place ? past.filter(hasLeft).map((former) => former.now ?? former.node) : []);
  if (!left.size) return past;
  return past.map((former) => (left.has(former.now ?? former.node) ? { ...former, now: place.node } : former));
}

/** The node with an execution id, or undefined. @param {Graph | undefined} root @param {string} executionId */
export function nodeAt(root, executionId) {
  let graph = root;
  /** @type {Node | undefined} */
  let found;
  for (const id of executionId.split(":")) {
    found = nodesOf(graph).find((node) => String(node.id) === id);
    graph = found?.subgraph;
  }
  return found;
}

/**
 * Adds a place to the past places of a node after a run; returns the same array if nothing is new.
 *
 * @param {PastPlace[]} past
 * @param {Place} place
 * @param {number} until start of the node's newest run
 */
export function withPastPlace(past, { workflow, node }, until) {
  /** @param {Place} place */
  const isSame = (place) => place.workflow === workflow && place.node === node;
  if (past.some((place) => isSame(place) && place.until >= until)) return past;
  return [...past.filter((place) => !isSame(place)), { workflow, node, until }].slice(-MAX_PAST_PLACES);
}

/**
 * Compares ids, because Vue wraps graphs in proxies.
 *
 * @param {Graph} target @param {Graph} graph @param {(string | number)[]} [path]
 * @returns {(string | number)[][]} the ids of the nodes that lead to a graph, for each place where it is
 */
function pathsTo(target, graph, path = []) {
  if (graph.id === target.id) return [path];
  return nodesOf(graph).filter(hasSubgraph).flatMap((node) => pathsTo(target, node.subgraph, [...path, node.id]));
}

/** @param {Graph | undefined} graph */
function nodesOf(graph) {
  return graph?.nodes ?? graph?._nodes ?? [];
}
