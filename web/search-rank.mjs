/** Puts a node before its siblings in ComfyUI's search. */

/**
 * ComfyUI ranks nodes whose ids begin with the word by how often they are used, then by the length of the id. Its table
 * of uses has only nodes of its time, so all nodes of this package have none.
 *
 * @param {ComfyUI.NodeDefinition} definition of the node, from which ComfyUI creates the entry of its search
 */
export function rankFirst(definition) {
  definition.postProcessSearchScores = ([match, ...scores]) => [match, -1, ...scores]; // used once: fewer than any in the table
}
