/**
 * Moves the canvas of ComfyUI in a real browser and counts frames: with ten viewers, one of which gets steps, and with the
 * same samplers alone.
 *
 * Reads `{url, chromium, profile, vue, rounds, spell_ms}` as JSON from stdin, writes a list of spells as JSON to stdout:
 * `graph`, `fps`, `main_ms`, `raster_ms` and `draw_ms` (CPU time per frame of the page's main thread, of its raster threads
 * and of the browser's compositor), and `layouts` per frame.
 */

import { readFileSync } from "node:fs";

import { openBrowser, openTab } from "../tests/tiers/browser/page.mjs";

const input = JSON.parse(readFileSync(0, "utf8"));
const COUNT = 10;
const [COLUMNS, PITCH_X, PITCH_Y] = [5, 600, 620];
const SCALE = 0.5; // at which all of them are on the screen
const HAND = { x: 750, y: 900, reach: 150 }; // of the pointer that moves the canvas
const [SHORT_STEPS, LONG_STEPS, STEP_MS] = [8, 1000, 300];
const BEFORE_MS = 3000; // until the page has opened the graph and got the first steps
const CATEGORIES = ["-*", "devtools.timeline", "cc", "viz", "benchmark"];
const GRAPHS = { bare: false, viewers: true };

/** A workflow with ten lines of nodes: model, viewer or none, sampler, end. */
function drawing(page, viewers) {
  return page.evaluate(
    async ({ viewers, COUNT, COLUMNS, PITCH_X, PITCH_Y, SHORT_STEPS }) => {
      const { app, LiteGraph } = window;
      const blank = { version: 0.4, last_node_id: 0, last_link_id: 0, nodes: [], links: [], groups: [], config: {}, extra: {} };
      await app.loadGraphData({ ...blank, id: crypto.randomUUID() }, true, true, "draft");
      for (let i = 0; i < COUNT; i++) {
        const [left, row] = [(i % COLUMNS) * PITCH_X, Math.floor(i / COLUMNS)];
        const add = (type, x, y, values = {}) => {
          const node = LiteGraph.createNode(type);
          node.pos = [left + x, y];
          app.graph.add(node);
          for (const [name, value] of Object.entries(values)) node.widgets.find((widget) => widget.name === name).value = value;
          return node;
        };
        const model = add("LabModel", 0, 2 * PITCH_Y - row * 200, { latent_format: "Flux", flow: true, height: 64, width: 64, step_ms: 1 });
        const watched = viewers ? add("SafelightPreview", 0, row * PITCH_Y) : model;
        const sampler = add("KSampler", 360, row * PITCH_Y, { seed: i + 1, steps: SHORT_STEPS, cfg: 1, control_after_generate: "fixed" });
        const end = add("LabDigest", 360, row * PITCH_Y + 400);
        if (viewers) model.connect(0, watched, 0);
        watched.connect(0, sampler, 0);
        for (const [output, slot] of [[1, 1], [1, 2], [2, 3]]) model.connect(output, sampler, slot);
        sampler.connect(0, end, 0);
      }
      return { ...JSON.parse(JSON.stringify(app.graph.serialize())), id: crypto.randomUUID() };
    },
    { viewers, COUNT, COLUMNS, PITCH_X, PITCH_Y, SHORT_STEPS },
  );
}

function open(page, workflow, name) {
  return page.evaluate(
    async ({ workflow, name, SCALE }) => {
      await window.app.loadGraphData(workflow, true, true, name);
      const { ds } = window.app.canvas;
      ds.scale = SCALE;
      [ds.offset[0], ds.offset[1]] = [70 / SCALE, 100 / SCALE];
      window.app.canvas.setDirty(true, true);
    },
    { workflow, name, SCALE },
  );
}

/** Waits until ComfyUI has no prompt. */
async function idle(page) {
  for (;;) {
    const { queue_running, queue_pending } = await (await fetch(`${input.url}/queue`)).json();
    if (!queue_running.length && !queue_pending.length) return;
    await page.waitForTimeout(100);
  }
}

/** Lets the first sampler make many slow steps; the others have their results. */
async function sample(page, seed) {
  await page.evaluate(
    async ({ seed, LONG_STEPS, STEP_MS }) => {
      const set = (type, name, value) => (window.app.graph.nodes.find((node) => node.type === type).widgets.find((widget) => widget.name === name).value = value);
      set("LabModel", "step_ms", STEP_MS);
      set("KSampler", "seed", seed);
      set("KSampler", "steps", LONG_STEPS);
      await window.app.queuePrompt(0);
    },
    { seed, LONG_STEPS, STEP_MS },
  );
  await page.waitForTimeout(BEFORE_MS);
}

/** Moves the canvas with the middle button, as a user does, and returns frames per second and what a frame costs. */
async function pan(page, session) {
  const events = [];
  const collect = ({ value }) => events.push(...value);
  session.on("Tracing.dataCollected", collect);
  await session.send("Tracing.start", { traceConfig: { includedCategories: CATEGORIES }, transferMode: "ReportEvents" });
  const counting = page.evaluate((spell_ms) => new Promise((done) => {
    const begin = performance.now();
    let frames = 0;
    const count = (now) => (now - begin < spell_ms ? (frames++, requestAnimationFrame(count)) : done((1000 * frames) / (now - begin)));
    requestAnimationFrame(count);
  }), input.spell_ms);
  await page.mouse.move(HAND.x, HAND.y);
  await page.mouse.down({ button: "middle" });
  const begin = Date.now();
  for (let ms = 0; ms < input.spell_ms; ms = Date.now() - begin) {
    await page.mouse.move(HAND.x + HAND.reach * Math.sin(ms / 500), HAND.y + (HAND.reach / 2) * (Math.cos(ms / 700) - 1));
  }
  await page.mouse.move(HAND.x, HAND.y);
  await page.mouse.up({ button: "middle" });
  const fps = await counting;
  const complete = new Promise((done) => session.once("Tracing.tracingComplete", done));
  await session.send("Tracing.end");
  await complete;
  session.off("Tracing.dataCollected", collect);
  return { fps, ...costs(events) };
}

/** CPU time per frame, in milliseconds, from the events of a trace. */
function costs(events) {
  const of = (name) => events.filter((event) => event.ph === "X" && event.name === name && event.tdur !== undefined);
  const frames = of("ProxyMain::BeginMainFrame");
  const [page] = frames;
  const perFrame = (name) => of(name).reduce((sum, { tdur }) => sum + tdur, 0) / 1000 / frames.length;
  const layouts = events.filter(({ ph, name, pid, tid }) => ph === "X" && name === "Layout" && pid === page.pid && tid === page.tid);
  return {
    main_ms: perFrame("ProxyMain::BeginMainFrame"),
    raster_ms: perFrame("RasterTask"),
    draw_ms: perFrame("Display::DrawAndSwap"),
    layouts: layouts.length / frames.length,
  };
}

const settings = { "Comfy.TutorialCompleted": true, "Comfy.VueNodes.Enabled": input.vue, "Safelight.Welcomed": true };
for (const [name, value] of Object.entries(settings)) {
  await fetch(`${input.url}/api/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ [name]: value }) });
}
const browser = await openBrowser(input.chromium, input.profile);
const spells = [];
try {
  const { page } = await openTab(browser, input.url);
  const session = await browser.newCDPSession(page);
  const drawings = {};
  for (const [graph, viewers] of Object.entries(GRAPHS)) {
    drawings[graph] = await drawing(page, viewers);
    await open(page, drawings[graph], graph);
    await page.evaluate(() => window.app.queuePrompt(0)); // each viewer has a picture
    await idle(page);
  }
  let seed = Date.now() % 1_000_000;
  for (let round = 0; round < input.rounds; round++) {
    for (const graph of round % 2 ? Object.keys(GRAPHS).reverse() : Object.keys(GRAPHS)) {
      await open(page, drawings[graph], graph);
      await sample(page, ++seed);
      spells.push({ graph, ...(await pan(page, session)) });
      await fetch(`${input.url}/interrupt`, { method: "POST", body: "{}" });
      await idle(page);
    }
  }
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(spells));
