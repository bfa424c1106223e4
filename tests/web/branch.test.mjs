/** Actions on a workflow, with a graph that has the methods of LiteGraph's: seeds, and branches that continue a run. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { continueFrom } from "../../web/branch.mjs";
import { samplerOf, seedWidgetOf, setSeed } from "../../web/sampler-node.mjs";
import { workflowActions } from "../../web/workflow-actions.mjs";

const TYPES = {
  Loader: { outputs: ["MODEL", "CONDITIONING", "LATENT", "VAE"] },
  Number: { outputs: ["INT"], widgets: { value: 7, control_after_generate: "randomize" } },
  Lora: { inputs: { model: "MODEL" }, outputs: ["MODEL"] },
  SafelightPreview: { inputs: { model: "MODEL" }, outputs: ["MODEL", "steps"], widgets: { keep_latents: false } },
  SafelightPickStep: {
    inputs: { steps: "STEPS", after_sampling: "*", step: "INT" },
    outputs: ["noisy", "denoised", "sigmas", "start_at_step", "total_steps", "model"],
    widgets: { step: 1 },
  },
  KSampler: {
    inputs: { model: "MODEL", positive: "CONDITIONING", negative: "CONDITIONING", latent_image: "LATENT", seed: "INT", cfg: "FLOAT" },
    outputs: ["LATENT"],
    widgets: { seed: 1, control_after_generate: "randomize", steps: 20, cfg: 4.5, sampler_name: "heun", scheduler: "karras" },
  },
  KSamplerAdvanced: {
    inputs: { model: "MODEL", positive: "CONDITIONING", negative: "CONDITIONING", latent_image: "LATENT", noise_seed: "INT", cfg: "FLOAT", steps: "INT", start_at_step: "INT" },
    outputs: ["LATENT"],
    widgets: { add_noise: "enable", noise_seed: 0, control_after_generate: "randomize", steps: 20, cfg: 8, sampler_name: "euler", scheduler: "normal", start_at_step: 0, end_at_step: 100, return_with_leftover_noise: "enable" },
  },
  SamplerCustomAdvanced: { inputs: { noise: "NOISE", guider: "GUIDER", sampler: "SAMPLER", sigmas: "SIGMAS", latent_image: "LATENT" }, outputs: ["LATENT"] },
  CFGGuider: { inputs: { model: "MODEL", positive: "CONDITIONING", negative: "CONDITIONING" }, outputs: ["GUIDER"], widgets: { cfg: 3 } },
  RandomNoise: { outputs: ["NOISE"], widgets: { noise_seed: 5, control_after_generate: "randomize" } },
  DisableNoise: { outputs: ["NOISE"] },
  Select: { outputs: ["SAMPLER"] },
  VAEDecode: { inputs: { samples: "LATENT", vae: "VAE" }, outputs: ["IMAGE"] },
  PreviewImage: { inputs: { images: "IMAGE" } },
  Odd: { inputs: { model: "MODEL" }, outputs: ["LATENT"] },
};

let graph, ids;

class Node {
  constructor(type) {
    const { inputs = {}, outputs = [], widgets = {} } = TYPES[type];
    Object.assign(this, { type, id: ++ids, pos: [0, 0], size: [200, 100] });
    this.inputs = Object.entries(inputs).map(([name, type]) => ({ name, type, link: null }));
    this.outputs = outputs.map((name) => ({ name, type: name, links: [] }));
    this.widgets = Object.entries(widgets).map(([name, value]) => ({ name, value }));
  }
  connect(slot, target, input) {
    assert.ok(this.outputs[slot] && target.inputs[input], `${this.type}.${slot} > ${target.type}.${input}`);
    const link = { id: graph.links.length, origin_id: this.id, origin_slot: slot, target_id: target.id, target_slot: input };
    graph.links.push(link);
    this.outputs[slot].links.push(link.id);
    target.inputs[input].link = link.id;
  }
  getInputLink(slot) {
    return graph.links[this.inputs[slot]?.link] ?? null;
  }
  isInputConnected(slot) {
    return this.inputs[slot].link !== null;
  }
  setDirtyCanvas() {}
}

const create = (type) => (type in TYPES ? new Node(type) : null);
const add = (type) => (graph.add(create(type)), graph.nodes.at(-1));
const wire = (from, output, to, input) => from.connect(from.outputs.findIndex(({ name }) => name === output), to, to.inputs.findIndex(({ name }) => name === input));
const valueOf = (node, name) => node.widgets.find((widget) => widget.name === name).value;
const linksOf = (node) => Object.fromEntries(node.inputs.map(({ name }, slot) => [name, node.getInputLink(slot)]).filter(([, link]) => link).map(([name, link]) => {
  const from = graph.getNodeById(link.origin_id);
  return [name, `${from.type}.${from.outputs[link.origin_slot].name}`];
}));

beforeEach(() => {
  ids = 0;
  graph = {
    id: "g", nodes: [], links: [],
    add(node) { node.graph = graph; graph.nodes.push(node); },
    getLink: (id) => graph.links[id],
    getNodeById: (id) => graph.nodes.find((node) => node.id === id),
  };
  graph.rootGraph = graph;
});

function simple(samplerType = "KSampler") {
  const [loader, preview, lora, sampler] = ["Loader", "SafelightPreview", "Lora", samplerType].map(add);
  wire(loader, "MODEL", preview, "model");
  wire(preview, "MODEL", lora, "model");
  wire(lora, "MODEL", sampler, "model");
  return { loader, preview, lora, sampler };
}

test("the sampler is the one that the run names, else the nearest behind the node", () => {
  const { preview, lora, sampler } = simple();
  const second = add("KSampler");
  wire(lora, "MODEL", second, "model");
  assert.equal(samplerOf(preview, { host: { sampler_node: String(second.id) } }), second);
  for (const named of ["77", String(lora.id), null, 3]) assert.equal(samplerOf(preview, { host: { sampler_node: named } }), sampler);
  assert.equal(samplerOf(lora, null), sampler);
  assert.equal(samplerOf(add("SafelightPreview"), null), null);
});

test("a seed is set where it comes from, and stays the same", () => {
  const { sampler } = simple();
  setSeed(seedWidgetOf(sampler), 42);
  assert.deepEqual([valueOf(sampler, "seed"), valueOf(sampler, "control_after_generate")], [42, "fixed"]);
  const number = add("Number");
  wire(number, "INT", sampler, "seed");
  setSeed(seedWidgetOf(sampler), 43);
  assert.deepEqual([valueOf(number, "value"), valueOf(number, "control_after_generate"), valueOf(sampler, "seed")], [43, "fixed", 42]);
});

test("the seed of a sampler with noise from another node is set there", () => {
  const [sampler, noise] = ["SamplerCustomAdvanced", "RandomNoise"].map(add);
  assert.equal(seedWidgetOf(sampler), null);
  wire(noise, "NOISE", sampler, "noise");
  setSeed(seedWidgetOf(sampler), 9);
  assert.equal(valueOf(noise, "noise_seed"), 9);
});

test("a node that is connected gets the step", () => {
  const { preview, sampler } = simple();
  const pick = add("SafelightPickStep");
  wire(preview, "steps", pick, "steps");
  assert.deepEqual(continueFrom(preview, sampler, 14, create), { nodes: [], text: "Continue from Step begins at step 14; keep_latents is on now" });
  assert.equal(continueFrom(preview, sampler, 3, create).text, "Continue from Step begins at step 3");
  assert.deepEqual([valueOf(pick, "step"), valueOf(preview, "keep_latents")], [3, true]);
  wire(add("Number"), "INT", pick, "step");
  assert.throws(() => continueFrom(preview, sampler, 3, create), /comes from another node/);
});

test("a branch of KSampler has its settings and its links, and samples the rest of the steps without noise", () => {
  const { loader, preview, sampler } = simple();
  wire(loader, "CONDITIONING", sampler, "positive");
  wire(loader, "CONDITIONING", sampler, "negative");
  wire(loader, "LATENT", sampler, "latent_image");
  const decode = add("VAEDecode");
  wire(sampler, "LATENT", decode, "samples");
  wire(loader, "VAE", decode, "vae");
  const { nodes, text } = continueFrom(preview, sampler, 5, create);
  assert.equal(text, "A branch begins at step 5; keep_latents is on now");
  assert.deepEqual(nodes.map(({ type }) => type), ["SafelightPickStep", "SafelightPreview", "KSamplerAdvanced", "VAEDecode", "PreviewImage"]);
  const [pick, watched, branch, image] = nodes;
  assert.deepEqual(linksOf(pick), { steps: "SafelightPreview.steps", after_sampling: "KSampler.LATENT" });
  assert.deepEqual(linksOf(watched), { model: "SafelightPickStep.model" });
  assert.deepEqual(linksOf(branch), {
    model: "SafelightPreview.MODEL", positive: "Loader.CONDITIONING", negative: "Loader.CONDITIONING", latent_image: "SafelightPickStep.noisy",
    steps: "SafelightPickStep.total_steps", start_at_step: "SafelightPickStep.start_at_step",
  });
  assert.deepEqual(linksOf(image), { samples: "KSamplerAdvanced.LATENT", vae: "Loader.VAE" });
  const values = Object.fromEntries(branch.widgets.map(({ name, value }) => [name, value]));
  assert.deepEqual(values, {
    add_noise: "disable", noise_seed: 1, control_after_generate: "fixed", steps: 20, cfg: 4.5, sampler_name: "heun", scheduler: "karras",
    start_at_step: 0, end_at_step: 10_000, return_with_leftover_noise: "disable",
  });
  const bottom = Math.max(...[preview, sampler].map(({ pos, size }) => pos[1] + size[1]));
  assert.ok(nodes.every(({ pos }) => pos[1] > bottom), "it covers no node");
  for (let i = 1; i < nodes.length; i++) assert.ok(nodes[i].pos[0] >= nodes[i - 1].pos[0] + nodes[i - 1].size[0]);
});

test("a branch in a subgraph has the links to the inputs of the subgraph", () => {
  const { preview, sampler } = simple();
  const linked = [];
  graph.inputNode = { slots: [{ connect: (input, node) => linked.push(`${input.name} of ${node.type}`) }] };
  graph.links.push({ id: graph.links.length, origin_id: -10, origin_slot: 0 });
  sampler.inputs.find(({ name }) => name === "positive").link = graph.links.length - 1;
  continueFrom(preview, sampler, 2, create);
  assert.deepEqual(linked, ["positive of KSamplerAdvanced"]);
});

test("a branch of a sampler with a guider has its own guider, with the model of the step", () => {
  const [loader, preview, guider, sampler, select] = ["Loader", "SafelightPreview", "CFGGuider", "SamplerCustomAdvanced", "Select"].map(add);
  wire(preview, "MODEL", guider, "model");
  wire(loader, "CONDITIONING", guider, "positive");
  wire(guider, "GUIDER", sampler, "guider");
  wire(select, "SAMPLER", sampler, "sampler");
  guider.widgets[0].value = 2.5;
  assert.equal(samplerOf(preview, null), sampler);
  const { nodes } = continueFrom(preview, sampler, 2, create);
  const branch = nodes.find(({ type }) => type === "SamplerCustomAdvanced");
  assert.deepEqual(linksOf(branch), {
    noise: "DisableNoise.NOISE", guider: "CFGGuider.GUIDER", sampler: "Select.SAMPLER", sigmas: "SafelightPickStep.sigmas", latent_image: "SafelightPickStep.noisy",
  });
  const own = nodes.find(({ type }) => type === "CFGGuider");
  assert.deepEqual(linksOf(own), { model: "SafelightPreview.MODEL", positive: "Loader.CONDITIONING" });
  assert.equal(valueOf(own, "cfg"), 2.5);
});

test("a branch of a sampler with a guider is laid where ComfyUI lacks the node DisableNoise", () => {
  const [preview, guider, sampler] = ["SafelightPreview", "CFGGuider", "SamplerCustomAdvanced"].map(add);
  wire(preview, "MODEL", guider, "model");
  wire(guider, "GUIDER", sampler, "guider");
  const { nodes } = continueFrom(preview, sampler, 2, (type) => (type === "DisableNoise" ? null : create(type)));
  const branch = nodes.find(({ type }) => type === "SamplerCustomAdvanced");
  assert.equal(linksOf(branch).guider, "CFGGuider.GUIDER");
});

test("of an unknown sampler the branch is only the node that chooses the step", () => {
  const { preview, sampler } = simple("Odd");
  const { nodes, text } = continueFrom(preview, sampler, 2, create);
  assert.deepEqual(nodes.map(({ type }) => type), ["SafelightPickStep"]);
  assert.equal(text, "A branch begins at step 2: connect it to a sampler; keep_latents is on now");
  assert.throws(() => continueFrom(add("SafelightPreview"), null, 2, create), /No sampler/);
});

test("what cannot be done says why", async () => {
  const { preview } = simple();
  const opened = [];
  const host = { change: (make) => make(), createNode: create, workflowOf: async (id) => ({ a: { workflow: {} }, b: null })[id], open: async (...facts) => opened.push(facts) };
  const run = (id, seed) => ({ id, started: 5, manifest: { sampler: { seed } } });
  const actions = (id, seed, node = preview) => workflowActions(() => node, host)({ run: run(id, seed), step: { index: 3 } });
  const whys = (...facts) => actions(...facts).map(({ why }) => Boolean(why));
  assert.deepEqual(whys("a", 1), [false, false, false]);
  assert.deepEqual(whys("a", 1, null), [true, true, false]);
  assert.deepEqual([whys("a", null)[1], whys("a", 2 ** 60)[1]], [true, true]);
  assert.equal(actions("a", 6)[1].run(), "Seed 6, fixed");
  await actions("a", 6)[2].run();
  assert.deepEqual(opened, [[{ workflow: {} }, "Run with seed 6", 5]]);
  await assert.rejects(() => actions("b", 6)[2].run(), /cannot be reached/);
  await assert.rejects(() => actions("c", 6)[2].run(), /no workflow/);
});
