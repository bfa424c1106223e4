/**
 * Uses the node Preview Steps in a real browser, and saves a screenshot of it for each frame of the moving picture.
 *
 * Reads `{url, chromium, profile, frames}` as JSON from stdin; `profile` and `frames` are empty folders. Writes a list of
 * `{file, ms, x, y, down}` to stdout: a screenshot, its duration, and the mouse pointer in it, in pixels.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { boxOf, FIND_NODE, openBrowser, openTab, openWorkflow, queue, view, viewUntil } from "../../tests/tiers/browser/page.mjs";

const input = JSON.parse(readFileSync(0, "utf8"));
const STEPS = 20;
const SHIFT = 40; // that of `safelight demo`: the scene is decided in the first half of the steps
const STEP_MS = 300; // leaves time for a screenshot of each step
const RUN_LIMIT_MS = 180_000;
const SEEDS = { umbrella: 5, balloons: 12, lighthouse: 14 }; // of the noise that leads to these scenes
const NODE_WIDTH_PX = 560;
const PICTURE_SIZE = { width: 28, height: 20 }; // in packed latent pixels
const MARGIN_PX = 8;
const NODE_OFFSET_PX = 70; // of the node's corner, below its title, from that of the canvas
const VIEWPORT = { width: 700, height: 950 };
const FRAME_MS = 85;
const LIVE_FRAME_MS = 110; // of each step
const PAUSE_MS = 500;
const LAST_PAUSE_MS = 1100;
const SETTLE_MS = 60; // for what the pointer changes, such as the color of a button

const finished = (seen) => seen.state.includes("finished") && seen.step === `step ${STEPS} / ${STEPS}` && seen.painted;
const settled = (seen) => seen.painted && !seen.state.includes("behind");

/** Puts the denoiser of the scenes and its schedule before the preview node, and shows only that node. */
function prepare(page) {
  return page.evaluate(
    async ({ find, width, values, offset }) => {
      const { app, LiteGraph } = window;
      const preview = eval(find);
      const [model] = app.graph.findNodesByType("LabModel");
      const [sampler] = app.graph.findNodesByType("KSampler");
      const add = (type) => {
        const node = LiteGraph.createNode(type);
        node.pos = [model.pos[0], model.pos[1] + 600];
        app.graph.add(node);
        for (const widget of node.widgets) widget.value = values[widget.name];
        return node;
      };
      const scenes = add("DemoScenes");
      const schedule = add("ModelSamplingSD3");
      model.connect(0, scenes, 0);
      scenes.connect(0, schedule, 0);
      schedule.connect(0, preview, 0);
      scenes.connect(1, sampler, 3);
      sampler.pos = [preview.pos[0] + width + 100, preview.pos[1]];
      preview.setSize([width, preview.size[1]]);
      await app.extensionManager.command.execute("Workspace.ToggleFocusMode");
      const { ds } = app.canvas;
      ds.scale = 1;
      ds.offset = Array.from(preview.pos, (at) => offset - at);
      app.canvas.setDirty(true, true);
    },
    { find: FIND_NODE, width: NODE_WIDTH_PX, values: { ...PICTURE_SIZE, step_ms: STEP_MS, shift: SHIFT }, offset: NODE_OFFSET_PX },
  );
}

/** Changes the height of the node so that the picture fills the viewer. */
async function fit(page) {
  const [width, height] = (await view(page)).size;
  const change = (width * PICTURE_SIZE.height) / PICTURE_SIZE.width - height;
  await page.evaluate(
    ({ find, change }) => {
      const node = eval(find);
      node.setSize([node.size[0], node.size[1] + change]);
      window.app.canvas.setDirty(true, true);
    },
    { find: FIND_NODE, change },
  );
  await viewUntil(page, (seen) => Math.abs(seen.size[1] - height - change) < 2);
}

/** The area of the node on the screen, with a margin. */
function nodeArea(page) {
  return page.evaluate(
    ({ find, margin }) => {
      const node = eval(find);
      const { ds, canvas } = window.app.canvas;
      const { x, y } = canvas.getBoundingClientRect();
      const title = window.LiteGraph.NODE_TITLE_HEIGHT;
      const [left, top] = [0, 1].map((i) => node.pos[i] + ds.offset[i]);
      return { x: x + left - margin, y: y + top - title - margin, width: node.size[0] + 2 * margin, height: node.size[1] + title + 2 * margin };
    },
    { find: FIND_NODE, margin: MARGIN_PX },
  );
}

class Recorder {
  frames = [];
  #page;
  #clip;
  #pointer = { x: 0, y: 0, down: false };

  constructor(page, clip) {
    this.#page = page;
    this.#clip = clip;
  }

  async frame(ms) {
    const file = `${String(this.frames.length).padStart(4, "0")}.png`;
    await this.#page.screenshot({ path: join(input.frames, file), clip: this.#clip });
    const { x, y, down } = this.#pointer;
    this.frames.push({ file, ms, x: x - this.#clip.x, y: y - this.#clip.y, down });
  }

  /** Shows the current state for a while. */
  async pause(ms = PAUSE_MS) {
    await this.#settle();
    await this.frame(ms);
  }

  /** Moves the pointer, slowly at both ends. @param {number} count number of frames */
  async glide(x, y, count) {
    const from = { ...this.#pointer };
    for (let i = 1; i <= count; i++) {
      const part = (1 - Math.cos((Math.PI * i) / count)) / 2;
      await this.place(from.x + (x - from.x) * part, from.y + (y - from.y) * part);
      await this.#settle();
      await this.frame(FRAME_MS);
    }
  }

  async place(x, y) {
    Object.assign(this.#pointer, { x, y });
    await this.#page.mouse.move(x, y);
  }

  async press() {
    await this.#page.mouse.down();
    this.#pointer.down = true;
    await this.pause(FRAME_MS);
  }

  async release() {
    await this.#page.mouse.up();
    this.#pointer.down = false;
    await this.pause(FRAME_MS);
  }

  async #settle() {
    await this.#page.waitForTimeout(SETTLE_MS);
    await viewUntil(this.#page, settled);
  }
}

/** Runs the sampler and saves a frame of each step. */
async function live(page, recorder, seed) {
  let { picture: shown } = await view(page);
  let state = "";
  const isNext = (now) => settled(now) && (now.picture !== shown || (state && now.state.includes("finished")));
  await queue(page, seed, STEPS);
  while (!state.includes("finished")) {
    ({ picture: shown, state } = await viewUntil(page, isNext, RUN_LIMIT_MS));
    await recorder.frame(LIVE_FRAME_MS);
  }
}

async function record(page) {
  const clip = await nodeArea(page);
  const recorder = new Recorder(page, clip);
  const strip = await boxOf(page, ".strip");
  const stage = await boxOf(page, ".stage");
  const onStrip = (part) => [strip.x + 10 + (strip.width - 20) * part, strip.y + strip.height / 2];
  const onStage = (part) => [stage.x + stage.width * part, stage.y + stage.height * 0.6];

  await recorder.place(stage.x + stage.width * 0.6, clip.y + 2 * MARGIN_PX);
  await live(page, recorder, SEEDS.lighthouse);
  await recorder.pause();

  await recorder.glide(...onStrip(0.4), 5);
  await recorder.glide(...onStrip(1), 5);
  await recorder.press();
  await recorder.glide(...onStrip(0.1), 12);
  await recorder.glide(...onStrip(1), 10);
  await recorder.release();

  const { x, y, width, height } = await boxOf(page, ".runs .compare");
  await recorder.glide(x + width / 2, y + height / 2, 4);
  await recorder.press();
  await recorder.release();
  await viewUntil(page, (seen) => seen.other && seen.mode === "wipe");
  await recorder.pause();
  await recorder.glide(...onStage(0.5), 4);
  await recorder.press();
  await recorder.glide(...onStage(0.15), 5);
  await recorder.glide(...onStage(0.85), 9);
  await recorder.glide(...onStage(0.5), 5);
  await recorder.release();
  await recorder.glide(...onStrip(1), 5);
  await recorder.press();
  await recorder.glide(...onStrip(0.25), 8);
  await recorder.glide(...onStrip(1), 8);
  await recorder.release();
  await recorder.pause(LAST_PAUSE_MS);
  return recorder.frames;
}

// No dialog, message, tooltip, map or badge over the node, which LiteGraph draws.
const settings = {
  "Safelight.Welcomed": true,
  "Comfy.EnableTooltips": false,
  "Comfy.TutorialCompleted": true,
  "Comfy.Minimap.Visible": false,
  "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
  "Comfy.VueNodes.Enabled": false,
};
await fetch(`${input.url}/api/settings`, { method: "POST", body: JSON.stringify(settings) });
const browser = await openBrowser(input.chromium, input.profile);
try {
  const { page } = await openTab(browser, input.url);
  await page.setViewportSize(VIEWPORT);
  const model = { latent_format: "Flux2", flow: true };
  await openWorkflow(page, { name: "recording", model, sampler: { cfg: 1, sampler_name: "euler", scheduler: "simple" } });
  await prepare(page);
  await viewUntil(page, (seen) => seen.onScreen);
  for (const [count, seed] of [SEEDS.umbrella, SEEDS.balloons].entries()) {
    await queue(page, seed, STEPS);
    await viewUntil(page, (seen) => finished(seen) && seen.runs.length === count + 1, RUN_LIMIT_MS);
  }
  await fit(page);
  process.stdout.write(JSON.stringify(await record(page)));
} finally {
  await browser.close();
}
