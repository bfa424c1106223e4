/** Lays the nodes that continue a run from one of its steps. */

import { t } from "./language.mjs";
import { inputSlot, linkAs, originOf, outputSlot, setWidget, targetsOf } from "./sampler-node.mjs";

const PICK = "SafelightPickStep";
const PREVIEW = "SafelightPreview";
const [GAP_PX, TITLE_PX] = [60, 40];
const LAST_STEP = 10_000; // `end_at_step` of a sampler that goes on to the end

/**
 * @typedef {ComfyUI.Node} Node
 * @typedef {(type: string, below?: number) => Node | null} Add adds a node to the graph, in the row or below its last one
 */

/**
 * How a branch begins in the middle: the type of its sampler, the values of that, what it takes from the chosen step, and
 * which inputs of the sampler have another name there.
 *
 * @typedef {{type: string, values: Record<string, unknown>, picked: Record<string, string>, renamed: Record<string, string>}} Branch
 */

/** @type {Branch} */
const ADVANCED = {
  type: "KSamplerAdvanced",
  values: { add_noise: "disable", end_at_step: LAST_STEP, return_with_leftover_noise: "disable" },
  picked: { latent_image: "noisy", steps: "total_steps", start_at_step: "start_at_step" },
  renamed: { seed: "noise_seed" },
};
/** By the type of the sampler. @type {Record<string, Branch>} */
const BRANCHES = {
  KSampler: ADVANCED,
  KSamplerAdvanced: ADVANCED,
  SamplerCustom: { type: "SamplerCustom", values: { add_noise: false }, picked: { latent_image: "noisy", sigmas: "sigmas" }, renamed: {} },
  SamplerCustomAdvanced: { type: "SamplerCustomAdvanced", values: {}, picked: { latent_image: "noisy", sigmas: "sigmas" }, renamed: {} },
};

/**
 * Sets the step of a Continue from Step node that is connected to a Preview Steps; without one, lays a branch of nodes.
 *
 * @param {Node} preview node of the type Preview Steps
 * @param {Node | null} sampler node that samples with it
 * @param {number} step first step that is sampled again
 * @param {(type: string) => Node | null} createNode
 * @returns {{nodes: Node[], text: string}} the new nodes, and the result in words
 */
export function continueFrom(preview, sampler, step, createNode) {
  const kept = keepLatents(preview);
  const existing = targetsOf(preview, outputSlot(preview, "steps")).map(({ node }) => node).find((node) => (node.comfyClass ?? node.type) === PICK);
  if (existing) {
    const slot = inputSlot(existing, "step");
    if (slot >= 0 && originOf(existing, slot)) throw new Error(t("The step of Continue from Step comes from another node: change it there"));
    setWidget(widgetOf(existing, "step"), step);
    existing.setDirtyCanvas(true, true);
    return { nodes: [], text: sentence([t("Continue from Step begins at step {step}", { step })], kept) };
  }
  if (!sampler) throw new Error(t("No sampler uses this model: connect one, then try again"));
  const nodes = layBranch(preview, sampler, step, createNode);
  const begin = sampler.graph?.id === sampler.graph?.rootGraph.id ? t("A branch begins at step {step}", { step }) : t("A branch begins at step {step} in the subgraph", { step });
  return { nodes, text: sentence([begin, nodes.length > 1 ? "" : t("connect it to a sampler")], kept) };
}

/** @param {string[]} parts @param {string} more */
function sentence(parts, more) {
  return [parts.filter(Boolean).join(": "), more].filter(Boolean).join("; ");
}

/** Switches `keep_latents` on: a branch needs the latents of the step. Returns that in words. @param {Node} preview */
function keepLatents(preview) {
  const widget = widgetOf(preview, "keep_latents");
  if (!widget || widget.value === true) return "";
  setWidget(widget, true);
  return t("keep_latents is on now");
}

/** @param {Node} preview @param {Node} sampler @param {number} step @param {(type: string) => Node | null} createNode */
function layBranch(preview, sampler, step, createNode) {
  const { graph } = sampler;
  /** @type {Node[]} */
  const nodes = [];
  let x = sampler.pos[0];
  const y = Math.max(...[preview, sampler].map(({ pos, size }) => pos[1] + size[1])) + GAP_PX + TITLE_PX;
  /** @type {Add} */
  const add = (type, below = 0) => {
    const node = createNode(type);
    if (!node) return null;
    node.pos = [x, y + below];
    graph?.add(node);
    nodes.push(node);
    if (!below) x += node.size[0] + GAP_PX;
    return node;
  };
  const pick = add(PICK);
  if (!pick) return nodes;
  setWidget(widgetOf(pick, "step"), step);
  connect(preview, "steps", pick, "steps");
  sampler.connect(latentSlot(sampler), pick, inputSlot(pick, "after_sampling"));
  const kind = BRANCHES[sampler.comfyClass ?? sampler.type];
  const watched = kind && add(PREVIEW);
  const branch = kind && add(kind.type);
  if (!watched || !branch) return nodes;
  connect(pick, "model", watched, "model");
  copySettings(sampler, branch, kind);
  for (const [input, output] of Object.entries(kind.picked)) connect(pick, output, branch, input);
  if (inputSlot(branch, "model") >= 0) watched.connect(0, branch, inputSlot(branch, "model"));
  else connectGuider(sampler, branch, watched, (type) => add(type, branch.size[1] + GAP_PX));
  layDecode(sampler, branch, add);
  return nodes;
}

/**
 * Gives a branch the values and the links of its sampler, but for those of the model and of the step.
 *
 * @param {Node} sampler @param {Node} branch @param {Omit<Branch, "type">} kind
 */
function copySettings(sampler, branch, { values, picked, renamed }) {
  for (const widget of sampler.widgets ?? []) {
    const copy = widgetOf(branch, renamed[widget.name] ?? widget.name);
    if (copy) setWidget(copy, widget.name === "control_after_generate" ? "fixed" : widget.value);
  }
  for (const [name, value] of Object.entries(values)) setWidget(widgetOf(branch, name), value);
  sampler.inputs.forEach((input, slot) => {
    const from = input.widget?.name ?? input.name;
    const to = inputSlot(branch, renamed[from] ?? from);
    const isOwn = ["model", "guider", "noise", ...Object.keys(picked), ...Object.keys(values)].includes(renamed[from] ?? from);
    if (to >= 0 && !isOwn) linkAs(sampler, slot, branch, to);
  });
}

/**
 * Gives a branch with a guider a copy of it with the watched model, and no noise.
 *
 * @param {Node} sampler @param {Node} branch @param {Node} watched @param {Add} add
 */
function connectGuider(sampler, branch, watched, add) {
  const noise = add("DisableNoise");
  if (noise) noise.connect(0, branch, inputSlot(branch, "noise"));
  const origin = originOf(sampler, inputSlot(sampler, "guider"));
  const guider = origin && add(origin.node.comfyClass ?? origin.node.type);
  if (!guider) return;
  if (noise) noise.pos[0] = branch.pos[0] - noise.size[0] - GAP_PX;
  copySettings(origin.node, guider, { values: {}, picked: {}, renamed: {} });
  if (inputSlot(guider, "model") >= 0) watched.connect(0, guider, inputSlot(guider, "model"));
  guider.connect(origin.slot, branch, inputSlot(branch, "guider"));
}

/**
 * If an image is decoded from the sampler's latents, one is decoded from those of the branch, with the same VAE.
 *
 * @param {Node} sampler @param {Node} branch @param {Add} add
 */
function layDecode(sampler, branch, add) {
  const decoded = targetsOf(sampler, latentSlot(sampler)).map(({ node }) => node).find((node) => (node.comfyClass ?? node.type) === "VAEDecode");
  const decode = decoded && add("VAEDecode");
  const image = decode && add("PreviewImage");
  if (!decoded || !decode || !image) return;
  linkAs(decoded, inputSlot(decoded, "vae"), decode, inputSlot(decode, "vae"));
  branch.connect(latentSlot(branch), decode, inputSlot(decode, "samples"));
  decode.connect(0, image, inputSlot(image, "images"));
}

/** @param {Node} node */
function latentSlot(node) {
  return node.outputs.findIndex(({ type }) => type === "LATENT");
}

/** @param {Node} node @param {string} name */
function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** @param {Node} from @param {string} output @param {Node} to @param {string} input */
function connect(from, output, to, input) {
  from.connect(outputSlot(from, output), to, inputSlot(to, input));
}
