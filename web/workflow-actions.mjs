/** Lists what ComfyUI can do with a picture: continue from it, use its seed, open its workflow. */

import { continueFrom } from "./branch.mjs";
import { t } from "./language.mjs";
import { samplerOf, seedWidgetOf, setSeed } from "./sampler-node.mjs";

/** @typedef {import("./types.mjs").Run} Run */

/**
 * @typedef {object} GraphHost the part of ComfyUI's page that the actions use
 * @property {(type: string) => ComfyUI.Node | null} createNode
 * @property {(change: () => ComfyUI.Node[]) => void} change makes a change that the user can undo, and selects the nodes that it returns
 * @property {(id: string) => Promise<{workflow: object | null, prompt: object | null} | null | undefined>} workflowOf a run
 * @property {(found: {workflow: object | null, prompt: object | null}, name: string,
 *   started: number) => Promise<void>} open opens one of them; `started` is when the run began
 */

/**
 * @param {(run: Run) => ComfyUI.Node | null} previewOf finds the node of the type Preview Steps that
 *   watched a run, if it is in the graph
 * @param {GraphHost} host
 * @returns {import("./action-menu.mjs").Actions}
 */
export function workflowActions(previewOf, host) {
  return ({ run, step }) => {
    const preview = previewOf(run);
    const noNode = preview ? undefined : t("The node of this run is not in this workflow. Open the workflow of the run first");
    return [
      { label: t("Continue from here (step {step})", { step: step.index }), why: noNode, run: () => (preview ? continueHere(preview, run, step, host) : noNode) },
      { label: t("Use this seed"), why: preview ? noSeed(preview, run) : noNode, run: () => (preview ? useSeed(preview, run, host) : noNode) },
      { label: t("Open the workflow of this run"), run: () => openWorkflow(run, host) },
    ];
  };
}

/** @param {ComfyUI.Node} preview @param {Run} run @param {{index: number}} step @param {GraphHost} host */
function continueHere(preview, { manifest }, { index }, host) {
  let text = "";
  host.change(() => {
    const branch = continueFrom(preview, samplerOf(preview, manifest), index, host.createNode);
    text = branch.text;
    return branch.nodes;
  });
  return text;
}

/** @param {ComfyUI.Node} preview @param {Run} run */
function seedPlace(preview, { manifest }) {
  const sampler = samplerOf(preview, manifest);
  return sampler && seedWidgetOf(sampler);
}

/** @param {ComfyUI.Node} preview @param {Run} run */
function noSeed(preview, run) {
  const seed = run.manifest?.sampler?.seed;
  if (seed == null) return t("The seed of this run is not known");
  if (!Number.isSafeInteger(seed)) return t("The seed of this run is too large for a browser: use smaller ones");
  return seedPlace(preview, run) ? undefined : t("The sampler has no seed that can be set");
}

/** @param {ComfyUI.Node} preview @param {Run} run @param {GraphHost} host */
function useSeed(preview, run, host) {
  const seed = run.manifest?.sampler.seed;
  const place = seedPlace(preview, run);
  if (place) host.change(() => (setSeed(place, seed), []));
  return t("Seed {seed}, fixed", { seed });
}

/** @param {Run} run @param {GraphHost} host */
async function openWorkflow(run, host) {
  const found = await host.workflowOf(run.id);
  if (found === null) throw new Error(t("The server cannot be reached. Try again"));
  if (!found) throw new Error(t("This run has no workflow: it was removed, or ComfyUI runs with --disable-metadata"));
  const { seed } = run.manifest?.sampler ?? {};
  await host.open(found, seed == null ? t("Run") : t("Run with seed {seed}", { seed }), run.started);
}
