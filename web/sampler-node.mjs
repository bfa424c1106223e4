/** Finds the sampler of a run in a LiteGraph graph, and the widget that holds its seed. */

import { nodeAt, subgraphNodes } from "./node-place.mjs";

const SEED_WIDGETS = ["seed", "noise_seed", "value"]; // the last one of a node that only holds a number
const MAX_LINKS = 8; // from the sampler to the node that holds its seed
const CONTROL = "control_after_generate";

/** @typedef {ComfyUI.Node} Node @typedef {{node: Node, widget: ComfyUI.Widget}} WidgetPlace */

/** The output that an input is linked to, or null. @param {Node} node @param {number} slot @returns {{node: Node, slot: number} | null} */
export function originOf(node, slot) {
  const link = node.getInputLink?.(slot);
  const origin = link && node.graph?.getNodeById(link.origin_id);
  return origin ? { node: origin, slot: link.origin_slot } : null;
}

/**
 * Links an input of a node to what an input of another node is linked to: an output, or an input of their subgraph.
 * Does nothing if that has no link.
 *
 * @param {Node} node @param {number} slot @param {Node} other @param {number} otherSlot
 */
export function linkAs(node, slot, other, otherSlot) {
  const origin = originOf(node, slot);
  if (origin) return void origin.node.connect(origin.slot, other, otherSlot);
  const link = node.getInputLink?.(slot);
  if (link) node.graph?.inputNode?.slots?.[link.origin_slot]?.connect(other.inputs[otherSlot], other);
}

/** The inputs that an output is linked to. @param {Node} node @param {number} slot @returns {{node: Node, slot: number}[]} */
export function targetsOf(node, slot) {
  return (node.outputs?.[slot]?.links ?? []).flatMap((id) => {
    const link = node.graph?.getLink(id);
    const target = link && node.graph?.getNodeById(link.target_id);
    return target ? [{ node: target, slot: link.target_slot }] : [];
  });
}

/** The place of an input among the inputs of a node, by its name; -1 if there is none. @param {Node} node @param {string} name */
export function inputSlot(node, name) {
  return node.inputs?.findIndex((input) => (input.widget?.name ?? input.name) === name) ?? -1;
}

/** The place of an output by its name; -1 if there is none. @param {Node} node @param {string} name */
export function outputSlot(node, name) {
  return node.outputs?.findIndex((output) => output.name === name) ?? -1;
}

/**
 * The sampler of a run: the one that it names, else the nearest one behind the Preview Steps. Null if there is none.
 *
 * @param {Node} preview node of the type Preview Steps
 * @param {import("./types.mjs").Manifest | null} manifest
 */
export function samplerOf(preview, manifest) {
  const named = manifest?.host?.sampler_node;
  const found = typeof named === "string" ? nodeAt(preview.graph?.rootGraph, named) : null;
  return found && isSampler(found) && found.graph?.id === preview.graph?.id ? found : samplerBehind(preview);
}

/** @param {Node} node */
function isSampler(node) {
  /** @param {{type: unknown}[]} slots @param {unknown[]} types */
  const has = (slots, ...types) => slots?.some(({ type }) => types.includes(type)) ?? false;
  return has(node.outputs, "LATENT") && has(node.inputs, "MODEL", "GUIDER");
}

/** @param {Node} preview */
function samplerBehind(preview) {
  const seen = new Set([preview]);
  for (const node of seen) {
    if (node !== preview && isSampler(node)) return node;
    const lines = (node.outputs ?? []).flatMap(({ type }, slot) => (type === "MODEL" || type === "GUIDER" ? targetsOf(node, slot) : []));
    lines.forEach(({ node }) => seen.add(node));
  }
  return null;
}

/**
 * The widget that holds the seed of a node: its own, or that of the node that its seed or its noise comes from.
 *
 * @param {Node} node
 * @returns {WidgetPlace | null}
 */
export function seedWidgetOf(node, links = MAX_LINKS) {
  if (!links) return null;
  for (const name of SEED_WIDGETS) {
    const widget = node.widgets?.find((widget) => widget.name === name);
    const slot = inputSlot(node, name);
    if (slot >= 0 && isLinked(node, slot)) return linkedSeed(node, slot, name, links);
    if (widget) return { node, widget };
  }
  const noise = node.inputs?.findIndex(({ type }) => type === "NOISE") ?? -1;
  const origin = noise < 0 ? null : originOf(node, noise);
  return origin && seedWidgetOf(origin.node, links - 1);
}

/** @param {Node} node @param {number} slot */
function isLinked(node, slot) {
  return node.isInputConnected?.(slot) ?? node.inputs[slot].link != null;
}

/**
 * The widget that a linked seed comes from: of another node, or of the subgraph's node that shows it.
 *
 * @param {Node} node @param {number} slot @param {string} name @param {number} links
 * @returns {WidgetPlace | null}
 */
function linkedSeed(node, slot, name, links) {
  const origin = originOf(node, slot);
  if (origin) return seedWidgetOf(origin.node, links - 1);
  const link = node.getInputLink?.(slot);
  const shownAs = link && node.graph?.inputNode?.slots?.[link.origin_slot]?.name;
  const holder = subgraphNodes(node.graph?.rootGraph).find(({ subgraph }) => subgraph.id === node.graph?.id);
  const widget = holder?.widgets?.find((widget) => widget.name === (shownAs ?? name));
  return holder && widget ? { node: holder, widget } : null;
}

/** Sets a seed, and lets it stay the same in later prompts. @param {WidgetPlace} place @param {unknown} seed */
export function setSeed({ node, widget }, seed) {
  setWidget(widget, seed);
  const control = widget.linkedWidgets?.find(({ name }) => name === CONTROL) ?? node.widgets?.find(({ name }) => name === CONTROL);
  if (control) setWidget(control, "fixed");
  node.setDirtyCanvas(true, true);
}

/**
 * Sets the value of a widget as a user does.
 *
 * @param {ComfyUI.Widget | undefined} widget nothing happens if a node lacks it @param {unknown} value
 */
export function setWidget(widget, value) {
  if (!widget) return;
  widget.value = value;
  widget.callback?.(value);
}
