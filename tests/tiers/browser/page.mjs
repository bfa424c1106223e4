/** Helpers for a page of ComfyUI in a real browser. */

import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.SAFELIGHT_PLAYWRIGHT, "package.json"));
const { chromium } = require("playwright-core");

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const SIZE = { width: 1500, height: 1000 };
const LIMIT_MS = 90_000; // on a busy machine ComfyUI needs a minute to open its page

/** Settings of ComfyUI that scenes change. */
const SETTINGS = {
  "Comfy.ColorPalette": "dark",
  "Comfy.TutorialCompleted": true,
  "Comfy.VueNodes.Enabled": false,
  "Safelight.Everywhere": false,
  "Safelight.HideSamplerPreview": true,
  "Safelight.Viewer.Speed": 8,
  "Safelight.Welcomed": true,
};

/** The first picture of the viewer, or of the run that it is compared with. */
export const FIRST = ".pane:first-child .cell";
export const OTHER = ".pane:last-child .cell";

/**
 * What the screen shows in the place of an element of the viewer, as PNG in base64: the pixels that a person sees, not
 * the picture that the element holds.
 *
 * @param {string} root expression for the shadow root of the viewer
 * @param {string} selector of the element
 */
export async function paint(page, root, selector) {
  const clip = await page.evaluate(
    ({ root, selector }) => {
      const box = eval(root)?.querySelector(selector)?.getBoundingClientRect();
      if (!box?.width) return null;
      const [left, top] = [Math.max(0, box.left), Math.max(0, box.top)];
      return { x: left, y: top, width: Math.min(innerWidth, box.right) - left, height: Math.min(innerHeight, box.bottom) - top };
    },
    { root, selector },
  );
  if (!clip) throw new Error(`nothing is at ${selector}`);
  return (await page.screenshot({ clip })).toString("base64");
}

/** Saves settings on a server that earlier scenes have used: what they have changed is as in a new ComfyUI. */
export async function saveSettings(url, settings = {}) {
  const body = JSON.stringify({ ...SETTINGS, ...settings });
  await fetch(`${url}/api/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
}

/** A browser with its own profile in the empty folder `profile`. */
export function openBrowser(executablePath, profile) {
  return chromium.launchPersistentContext(profile, { executablePath, args: FLAGS, viewport: SIZE });
}

/** A tab, with all its errors collected in `errors`. */
export async function openPage(browser) {
  const page = await browser.newPage();
  page.setDefaultTimeout(LIMIT_MS);
  const errors = [];
  page.on("pageerror", (error) => errors.push({ from: String(error.stack), text: String(error) }));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push({ from: message.location().url, text: message.text() });
  });
  const failed = (request) => request.failure()?.errorText !== "net::ERR_ABORTED"; // a reload aborts pending requests
  page.on("requestfailed", (request) => failed(request) && errors.push({ from: request.url(), text: request.failure()?.errorText }));
  page.on("response", (answer) => {
    if (answer.status() >= 400) errors.push({ from: answer.url(), text: `status ${answer.status()}` });
  });
  return { page, errors };
}

/** A tab that shows ComfyUI. */
export async function openTab(browser, url) {
  const tab = await openPage(browser);
  await tab.page.goto(url);
  await ready(tab.page);
  return tab;
}

/** Waits until ComfyUI has loaded its extensions and its first workflow. */
export async function ready(page) {
  await page.waitForFunction(() => window.app?.canvas?.graph?.nodes && window.LiteGraph?.registered_node_types?.SafelightPreview);
  await page.waitForFunction(() => !document.querySelector("#splash-loader, .p-blockui-mask"));
}

/** Reloads the page as soon as the browser's storage has the open workflow as it is now: the host saves it with a delay. */
export async function reload(page) {
  await page.waitForFunction(() => {
    const tracker = window.app.extensionManager.workflow.activeWorkflow.changeTracker;
    (tracker.captureCanvasState ?? tracker.checkState).call(tracker); // as after a click or a key
    const plain = (text) => text.replaceAll("\\", "");
    const { links, nodes } = window.app.graph.serialize();
    const parts = [JSON.stringify(links), ...nodes.map(({ properties }) => JSON.stringify(properties))].map(plain);
    const saved = [...Object.values(sessionStorage), ...Object.values(localStorage)].map(plain);
    return saved.some((text) => parts.every((part) => text.includes(part)));
  }, null, { polling: 100 });
  await page.reload();
  await ready(page);
}

/**
 * Creates the workflow LabModel -> SafelightPreview -> KSampler -> LabDigest and opens it in a tab.
 *
 * @returns {Promise<string>} the id of the workflow
 */
export function openWorkflow(page, { name, model = {}, preview = {}, sampler = {}, size, subgraph = false }) {
  return page.evaluate(
    async ({ name, values, size, subgraph }) => {
      const { app, LiteGraph } = window;
      const blank = { version: 0.4, last_node_id: 0, last_link_id: 0, nodes: [], links: [], groups: [], config: {}, extra: {} };
      await app.loadGraphData({ ...blank, id: crypto.randomUUID() }, true, true, `${name} draft`);
      const nodes = {};
      const places = { LabModel: [60, 120], SafelightPreview: [420, 120], KSampler: [900, 120], LabDigest: [1240, 120] };
      for (const [type, pos] of Object.entries(places)) {
        const node = (nodes[type] = LiteGraph.createNode(type));
        node.pos = pos;
        app.graph.add(node);
        for (const [widget, value] of Object.entries(values[type] ?? {})) {
          const found = node.widgets.find(({ name }) => name === widget);
          if (!found) throw new Error(`${type} has no widget ${widget}`);
          found.value = value;
        }
      }
      const { LabModel, SafelightPreview, KSampler, LabDigest } = nodes;
      if (size) SafelightPreview.setSize(size);
      LabModel.connect(0, SafelightPreview, 0);
      SafelightPreview.connect(0, KSampler, 0);
      LabModel.connect(1, KSampler, 1);
      LabModel.connect(1, KSampler, 2);
      LabModel.connect(2, KSampler, 3);
      KSampler.connect(0, LabDigest, 0);
      if (subgraph) app.graph.convertToSubgraph(new Set([SafelightPreview, KSampler]));
      const workflow = JSON.parse(JSON.stringify(app.graph.serialize()));
      workflow.id = crypto.randomUUID();
      await app.loadGraphData(workflow, true, true, name);
      return app.graph.id;
    },
    { name, size, subgraph, values: { LabModel: model, SafelightPreview: preview, KSampler: sampler } },
  );
}

/** An expression for the preview node of the open workflow, at any depth. */
export const FIND_NODE = `(() => {
  const search = (graph) => graph.nodes.map((n) => n.comfyClass === "SafelightPreview" ? n : n.subgraph ? search(n.subgraph) : null).find(Boolean);
  return search(window.app.graph);
})()`;

/** What the node shows now. */
export function view(page) {
  return page.evaluate((find) => {
    const node = eval(find);
    const widget = node?.widgets?.at(-1);
    const root = widget?.element?.shadowRoot;
    if (!root) return null;
    const text = (name) => root.querySelector(`.parts .${name}`).textContent;
    const imgs = [...root.querySelectorAll(".pane:first-child img")];
    const address = (img) => new URL(img.src).pathname + new URL(img.src).search;
    const stage = root.querySelector(".stage");
    return {
      state: root.querySelector(".viewer").className,
      picture: imgs.length ? address(imgs[0]) : null,
      pictures: imgs.map(address),
      drawn: root.querySelectorAll(".pane:first-child canvas").length,
      frame: root.querySelector(".frame").textContent,
      other: [...root.querySelectorAll(".pane:last-child img")].map(address)[0] ?? null,
      mode: stage.dataset.mode,
      painted: imgs.length > 0 && imgs.every((img) => img.complete && img.naturalWidth > 0),
      live: root.querySelector(".live").dataset.is,
      step: text("step"),
      sigma: text("sigma"),
      decoder: text("decoder"),
      strip: root.querySelector(".strip").ariaValueText,
      differences: [...root.querySelectorAll(".differences dt")].map((name) => name.textContent),
      runs: [...root.querySelectorAll(".thumb")].map((thumb) => Boolean(thumb.querySelector("img"))),
      placeholder: root.querySelector(".placeholder").textContent,
      note: root.querySelector(".note-text").textContent,
      focused: document.activeElement === widget.element,
      zoomed: stage.classList.contains("zoomed"),
      full: root.querySelector("dialog").open,
      size: [stage.offsetWidth, stage.offsetHeight], // independent of the zoom of the canvas
      scale: window.app.canvas.ds.scale,
      onScreen: widget.element.isConnected && stage.offsetWidth > 0,
    };
  }, FIND_NODE);
}

/** The position of a part of the viewer on the screen. @param {string} selector in its shadow root */
export function boxOf(page, selector) {
  return page.evaluate(
    ({ find, selector }) => {
      const { x, y, width, height } = eval(find).widgets.at(-1).element.shadowRoot.querySelector(selector).getBoundingClientRect();
      return { x, y, width, height };
    },
    { find: FIND_NODE, selector },
  );
}

/** Clicks into the middle of a part of the viewer, or at a fraction of its width. */
export async function clickOn(page, selector, across = 0.5) {
  const { x, y, width, height } = await boxOf(page, selector);
  await page.mouse.click(x + width * across, y + height / 2);
}

/** Waits until `test` accepts what the node shows. */
export async function viewUntil(page, test, limit_ms = LIMIT_MS) {
  const end = Date.now() + limit_ms;
  for (;;) {
    const seen = await view(page);
    if (seen && test(seen)) return seen;
    if (Date.now() > end) throw new Error(`timed out; last view of the node: ${JSON.stringify(seen)}`);
    await page.waitForTimeout(30);
  }
}

/** How the newest prompt of the open workflow has ended, as ComfyUI's history says: other workflows have prompts there too. */
export async function endOfPrompt(page) {
  for (let tries = 0; tries < 300; tries++) {
    const status = await page.evaluate(async () => {
      const entries = Object.values(await (await fetch("/history")).json());
      return entries.filter(({ prompt }) => prompt[3]?.extra_pnginfo?.workflow?.id === window.app.graph.id).at(-1)?.status;
    });
    if (status) return status.status_str;
    await page.waitForTimeout(100);
  }
  throw new Error("the prompt does not end");
}

/** Queues the open workflow with a new seed: with the same one ComfyUI would not sample again. */
export function queue(page, seed, steps = 8) {
  return page.evaluate(async ({ seed, steps }) => {
    const search = (graph) => graph.nodes.flatMap((n) => (n.subgraph ? search(n.subgraph) : [n]));
    const sampler = search(window.app.graph).find((n) => n.comfyClass === "KSampler");
    sampler.widgets.find((w) => w.name === "seed").value = seed;
    sampler.widgets.find((w) => w.name === "steps").value = steps;
    sampler.widgets.find((w) => w.name === "control_after_generate").value = "fixed";
    await window.app.queuePrompt(0);
  }, { seed, steps });
}
