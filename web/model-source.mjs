/** Follows the links of a LiteGraph graph upstream: what a node's model and latents come from. */

/** @typedef {ComfyUI.Node} Node */

/** The nodes that the model and the latents of a node's samplers come from, with their values, as a short text. @param {Node} node */
export function sourceOf(node) {
  const samplers = (node.graph && node.getOutputNodes?.(0)) ?? [];
  const nodes = [...lineOf(node, "MODEL"), ...samplers.flatMap((sampler) => lineOf(sampler, "LATENT"))];
  return hash(JSON.stringify(nodes.map((node) => [node.type, node.id, valuesOf(node).map(String)])));
}

/** All values of the nodes on the model line before a node. @param {Node} node @returns {unknown[]} */
export function modelValues(node) {
  return lineOf(node, "MODEL").flatMap(valuesOf);
}

/** @param {Node} from @param {string} type */
function lineOf(from, type) {
  /** @type {Node[]} */
  const found = [];
  for (let at = nodeBefore(from, type); at && !found.includes(at); at = nodeBefore(at, type)) found.push(at);
  return found;
}

/** @param {Node} node */
function valuesOf({ widgets = [] }) {
  return widgets.filter(({ name }) => !/seed|control_/.test(name)).map(({ value }) => value);
}

/** The node whose output is linked to the first input of a type. @param {Node} node @param {string} type */
function nodeBefore(node, type) {
  const slot = node.graph ? (node.inputs?.findIndex((input) => input.type === type) ?? -1) : -1; // a clone has no graph
  return slot < 0 ? null : (node.getInputNode?.(slot) ?? null);
}

/** @param {string} text */
function hash(text) {
  let sum = 5381;
  for (let i = 0; i < text.length; i++) sum = (Math.imul(sum, 33) ^ text.charCodeAt(i)) >>> 0;
  return sum.toString(36);
}
