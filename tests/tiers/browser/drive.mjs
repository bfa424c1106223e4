/**
 * Uses the node in a real browser as a user does, and reports what it shows.
 *
 * Reads `{url, chromium, profiles, vue, shots, latent_format, example}` as JSON from stdin, writes JSON to stdout.
 */

import { mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { boxOf, clickOn, endOfPrompt, FIND_NODE, FIRST, openBrowser, openPage, openTab, openWorkflow, OTHER, paint, queue, ready, reload, saveSettings, view, viewUntil } from "./page.mjs";

const input = JSON.parse(readFileSync(0, "utf8"));
const model = { latent_format: input.latent_format, flow: true, height: 24, width: 36, step_ms: 450 };
const sampler = { steps: 8, cfg: 1 };
const finished = (seen) => seen.state.includes("finished") && /^step (\d+) \/ \1$/.test(seen.step);
const stepOf = (seen) => Number(/step\s+(\d+)/.exec(seen.step)?.[1] ?? 0);
const running = (seen, step) => seen.state.includes("running") && stepOf(seen) >= step; // a busy machine skips steps
const newProfile = () => mkdtempSync(join(input.profiles, "profile-"));
const shot = (page, name) => page.screenshot({ path: join(input.shots, `${name}.png`) });
const interrupt = () => fetch(`${input.url}/interrupt`, { method: "POST", body: "{}" });
let seed = Date.now() % 1_000_000_000;

const ROOT = `(${FIND_NODE})?.widgets.at(-1).element.shadowRoot`;

/** The pixels on the screen in the place of a picture, with the address of the picture; null while it changes. */
async function look(page, selector = FIRST) {
  const before = await view(page);
  if (!before?.painted || !before.onScreen) return null;
  const shot = await paint(page, ROOT, selector);
  const after = await view(page);
  return before.picture === after.picture && !after.state.includes("behind") ? { picture: after.picture, shot } : null;
}

/** The same, once it does not change. */
async function lookAt(page, selector = FIRST) {
  await page.mouse.move(2, 2); // away from buttons that appear under it
  for (let tries = 0; tries < 100; tries++) {
    await page.waitForTimeout(100);
    const seen = await look(page, selector);
    if (seen) return seen;
  }
  throw new Error(`the picture changes all the time: ${JSON.stringify(await view(page))}`);
}

/** The files of all steps of the run that the viewer shows, in base64, by their paths. */
async function filesOf({ picture }) {
  const run = picture.split("/").slice(0, -1).join("/");
  const { steps } = await (await fetch(`${input.url}${run}`)).json();
  const paths = steps.flatMap(({ files }) => files.map((file) => `${run}/${file}`));
  const contents = await Promise.all(paths.map(async (path) => Buffer.from(await (await fetch(`${input.url}${path}`)).arrayBuffer()).toString("base64")));
  return Object.fromEntries(paths.map((path, i) => [path, contents[i]]));
}

/** Everything that the node shows until `test` accepts it, without repetitions. */
async function watch(page, test) {
  const seen = [];
  await viewUntil(page, (now) => {
    if (JSON.stringify(now) !== JSON.stringify(seen.at(-1))) seen.push(now);
    return test(now);
  });
  return seen;
}

/** Clicks into the viewer until it has the focus: on a busy machine the page misses clicks. */
async function focus(page) {
  for (let tries = 0; tries < 20; tries++) {
    await clickOn(page, ".stage");
    await page.waitForTimeout(300);
    if ((await view(page)).focused) return;
  }
  throw new Error("the viewer takes no focus");
}

/** Looks at the screen during a run, once for each picture. */
async function watchScreen(page) {
  const looks = new Map();
  for (let isRunning = true; isRunning; ) {
    isRunning = !finished(await view(page));
    const seen = await look(page);
    if (seen && !looks.has(seen.picture)) looks.set(seen.picture, seen);
  }
  return [...looks.values()];
}

/** Shows the inputs of the node, which are in one line. Older frontends always show them. */
async function unfold(page) {
  await viewUntil(page, (seen) => seen.onScreen);
  const folds = await page.evaluate((root) => Boolean(eval(root).querySelector(".fold")?.offsetWidth), ROOT);
  if (folds) await clickOn(page, ".fold");
}

const SCENES = {
  async live({ page }) {
    const workflow = await openWorkflow(page, { name: "live", model, sampler });
    const reads = [];
    page.on("request", (request) => {
      const [, run, file] = /\/safelight\/runs\/([\w-]{36})(\/\w+)?/.exec(request.url()) ?? [];
      if (run) reads.push(file ? "picture" : "manifest");
    });
    const prompt = page.waitForRequest((request) => request.url().endsWith("/prompt") && request.method() === "POST").catch(() => null);
    await viewUntil(page, (seen) => seen.onScreen);
    await page.waitForTimeout(700); // Vue nodes need several layouts to find their size
    const idle = await view(page);
    await shot(page, "idle");
    await queue(page, ++seed);
    const seen = await watch(page, (now) => running(now, 3));
    await shot(page, "running");
    seen.push(...(await watch(page, finished)));
    await shot(page, "finished");
    const body = (await prompt).postDataJSON();
    const isPreview = (node) => (node.class_type ?? node.type) === "SafelightPreview";
    const inputs = Object.keys(Object.values(body.prompt).find(isPreview).inputs);
    const values = body.extra_data.extra_pnginfo.workflow.nodes.find(isPreview).widgets_values;
    const { safelight_key: key, ...extra } = body.extra_data;
    const published = JSON.stringify([body.prompt, extra, await page.evaluate(() => window.app.graph.serialize())]);
    const history = await (await fetch(`${input.url}/history`)).text();
    return { workflow, idle, seen, inputs, values, reads: [...reads], key, isPublished: (published + history).includes(key) };
  },

  /** What a person sees of a run: live, in full window, after a reload, and next to another run. */
  async painted({ page }) {
    await openWorkflow(page, { name: "painted", model: { ...model, step_ms: 900 }, sampler });
    await viewUntil(page, (seen) => seen.onScreen);
    await queue(page, ++seed);
    await viewUntil(page, (seen) => running(seen, 1));
    const live = await watchScreen(page);
    const end = await lookAt(page);
    const files = await filesOf(end);
    await focus(page);
    await page.keyboard.press("f");
    await viewUntil(page, (seen) => seen.full);
    const full = await lookAt(page);
    await page.keyboard.press("Escape");
    await viewUntil(page, (seen) => !seen.full);
    await reload(page);
    await viewUntil(page, (seen) => seen.painted && seen.onScreen);
    const reloaded = await lookAt(page);
    await queue(page, ++seed);
    await viewUntil(page, (seen) => finished(seen) && seen.picture !== reloaded.picture && seen.painted);
    await focus(page);
    await page.keyboard.press("Home");
    await page.keyboard.press("c");
    await viewUntil(page, (seen) => seen.other && seen.mode !== "one" && seen.differences.length);
    const resize = (size) =>
      page.evaluate(({ find, size }) => {
        const before = [...eval(find).size];
        eval(find).setSize(size);
        window.app.canvas.setDirty(true, true);
        return before;
      }, { find: FIND_NODE, size });
    const narrow = await resize([760, 900]); // in a narrow node one would be above the other
    await viewUntil(page, (seen) => seen.size[0] > 500);
    await clickOn(page, ".comparing [aria-label^='Side']");
    await viewUntil(page, (seen) => seen.mode === "side");
    const beside = [await lookAt(page), await lookAt(page, OTHER)];
    const { picture, other } = await view(page);
    const compared = { picture, other, beside, files: { ...files, ...(await filesOf({ picture })), ...(await filesOf({ picture: other })) } };
    await clickOn(page, ".comparing [aria-label^='Wipe']");
    await page.keyboard.press("Escape");
    await resize(narrow);
    await viewUntil(page, (seen) => seen.size[0] < 500);
    return { live, end, files, full, reloaded, compared };
  },

  async scrub({ page }) {
    const seen = {};
    const at = async (name, step) => (seen[name] = await viewUntil(page, (now) => now.step === `step ${step} / 8` && now.painted));
    const { x, y, width, height } = await boxOf(page, ".strip");
    await page.mouse.move(x + width / 2, y + height / 2);
    await page.waitForTimeout(300);
    seen.bubble = (await boxOf(page, ".bubble")).width > 0;
    await shot(page, "pointed");
    await page.mouse.down();
    await page.mouse.move(x + 4, y + height / 2, { steps: 8 });
    await page.mouse.up();
    await at("dragged", 1);
    for (const [key, step] of [["ArrowRight", 2], ["Shift+ArrowRight", 7], ["ArrowLeft", 6], ["Home", 1], ["End", 8]]) {
      await page.keyboard.press(key);
      await at(key, step);
    }
    await page.keyboard.press("Home");
    await page.keyboard.press("Space");
    seen.played = await watch(page, (now) => now.step === "step 8 / 8" && now.live === "newest");
    await clickOn(page, ".tools [aria-label^='Full']");
    seen.full = await viewUntil(page, (now) => now.full);
    await page.waitForTimeout(300);
    await shot(page, "full");
    await page.keyboard.press("Escape");
    seen.back = await viewUntil(page, (now) => !now.full);
    return seen;
  },

  /** Turns the wheel, drags and types over all parts of the full window, which hides the canvas. */
  async full_window({ page }) {
    const canvas = () =>
      page.evaluate((find) => {
        const { ds } = window.app.canvas;
        return { scale: ds.scale, offset: [...ds.offset], nodes: window.app.graph.nodes.length, exists: Boolean(eval(find)) };
      }, FIND_NODE);
    await page.evaluate((find) => window.app.canvas.select?.(eval(find)) ?? window.app.canvas.selectNode(eval(find)), FIND_NODE);
    await focus(page);
    const before = await canvas();
    await page.keyboard.press("f");
    await viewUntil(page, (now) => now.full);
    for (const part of [".stage", ".strip", ".caption", ".runs"]) {
      const { x, y, width, height } = await boxOf(page, part);
      await page.mouse.move(x + width * 0.9, y + height / 2);
      await page.mouse.wheel(0, -240);
      await page.keyboard.down("Control");
      await page.mouse.wheel(0, -120); // as a pinch on a touchpad
      await page.keyboard.up("Control");
      await page.mouse.down({ button: "middle" });
      await page.mouse.move(x + width * 0.8, y + height / 2 + 5, { steps: 3 });
      await page.mouse.up({ button: "middle" });
    }
    const zoomed = await viewUntil(page, (now) => now.zoomed); // the picture itself
    await page.keyboard.press("Delete");
    await page.waitForTimeout(300);
    await page.keyboard.press("z");
    await page.keyboard.press("f");
    await viewUntil(page, (now) => !now.full);
    return { before, zoomed: zoomed.zoomed, after: await canvas() };
  },

  async wheel({ page }) {
    const stage = await boxOf(page, ".stage");
    const center = [stage.x + stage.width / 2, stage.y + stage.height / 2];
    await page.evaluate(() => document.activeElement.blur());
    const settled = await view(page);
    await page.mouse.move(...center);
    await page.mouse.wheel(0, -120);
    const unfocused = await viewUntil(page, (now) => now.scale !== settled.scale);
    await page.mouse.wheel(0, 120);
    await page.waitForTimeout(300);
    const before = await view(page);
    await page.mouse.click(...center);
    await page.mouse.wheel(0, -120);
    const focused = await viewUntil(page, (now) => now.zoomed);
    const zoomed = await boxOf(page, ".board");
    await page.mouse.down();
    await page.mouse.move(center[0] + 20, center[1], { steps: 4 });
    await page.mouse.up();
    const panned = await boxOf(page, ".board");
    await page.mouse.dblclick(...center);
    const fitted = await viewUntil(page, (now) => !now.zoomed);
    return { settled, unfocused, before, focused, zoomed, panned, fitted };
  },

  async compare({ page }) {
    await queue(page, ++seed);
    await viewUntil(page, (now) => now.runs.length > 1 && now.state.includes("running"));
    await viewUntil(page, finished);
    await clickOn(page, ".stage");
    await page.keyboard.press("c");
    const wiped = await viewUntil(page, (now) => now.other && now.mode !== "one" && now.differences.length);
    await page.waitForTimeout(300);
    await shot(page, "compared");
    await clickOn(page, ".comparing [aria-label^='Difference']");
    const difference = await viewUntil(page, (now) => now.mode === "difference");
    await page.keyboard.press("ArrowLeft");
    const together = await viewUntil(page, (now) => now.step === "step 7 / 8" && now.other.includes("step_0007"));
    const saved = await page.evaluate((find) => ({ ...eval(find).properties.safelight_view }), FIND_NODE);
    await page.keyboard.press("Escape");
    const after = await viewUntil(page, (now) => now.mode === "one");
    await page.keyboard.press("End");
    return { wiped, difference, together, saved, after };
  },

  /** Reaches the oldest of many runs with the mouse alone, without a click into the viewer. */
  async many_runs({ page }) {
    await openWorkflow(page, { name: "many", model: { ...model, step_ms: 1 }, sampler });
    for (let i = 0; i < 14; i++) {
      await queue(page, ++seed, 2);
      await viewUntil(page, (now) => now.runs.length === i + 1 && now.state.includes("finished"));
    }
    const row = () =>
      page.evaluate((root) => {
        const list = eval(root).querySelector(".thumbs");
        const { right } = list.getBoundingClientRect();
        const last = list.lastChild.getBoundingClientRect();
        return { left: list.scrollLeft, scale: window.app.canvas.ds.scale, reached: last.right <= right + 1 };
      }, ROOT);
    await page.evaluate(() => document.activeElement.blur());
    const box = await boxOf(page, ".thumbs");
    await page.mouse.move(box.x + 80, box.y + box.height / 2);
    const seen = { before: await row() };
    await page.mouse.wheel(0, 100);
    await page.waitForTimeout(200);
    seen.wheel = await row();
    await page.keyboard.down("Shift");
    await page.mouse.wheel(0, 60);
    await page.keyboard.up("Shift");
    await page.waitForTimeout(200);
    seen.shift = await row();
    await shot(page, "many_runs");
    for (let clicks = 0; clicks < 6 && !(await row()).reached; clicks++) {
      await clickOn(page, ".arrow.older");
      await page.waitForTimeout(200);
    }
    seen.end = await row();
    await clickOn(page, ".thumb:last-child");
    seen.oldest = await viewUntil(page, (now) => now.painted && now.live === "held");
    await clickOn(page, ".live");
    return seen;
  },

  async locked({ page }) {
    await clickOn(page, ".strip", 0.4);
    await page.keyboard.press("l");
    const before = await viewUntil(page, (now) => now.live === "locked" && now.painted && now.strip.startsWith(`step ${stepOf(now)} of`));
    await queue(page, ++seed, 30);
    const during = await viewUntil(page, (now) => now.runs.length > before.runs.length);
    await clickOn(page, ".live");
    const after = await viewUntil(page, (now) => finished(now) && !now.state.includes("behind"));
    return { before, during, after };
  },

  async settings({ page }) {
    await page.evaluate(async () => {
      const { setting } = window.app.extensionManager;
      await setting.set("Safelight.Viewer.Speed", 16);
    });
    const speed = () => page.evaluate((find) => eval(find).widgets.at(-1).element.shadowRoot.querySelector(".speed").textContent, FIND_NODE);
    await page.waitForTimeout(200);
    const set = await speed();
    await reload(page);
    await viewUntil(page, (seen) => seen.painted && seen.onScreen);
    return { set, after: await speed() };
  },

  async tabs({ page }) {
    const before = await view(page);
    const name = await page.evaluate(() => window.app.extensionManager.workflow.activeWorkflow.filename);
    await openWorkflow(page, { name: "other", model, sampler });
    const other = await viewUntil(page, (seen) => seen.onScreen);
    await page.waitForTimeout(500); // long enough to load a picture of the other workflow
    const still = await view(page);
    await page.getByText(name, { exact: true }).locator("visible=true").first().click();
    const back = await viewUntil(page, (seen) => seen.painted);
    return { before, other, still, back };
  },

  async reload({ page }) {
    const before = await view(page);
    await reload(page);
    const after = await viewUntil(page, (seen) => seen.painted && seen.onScreen);
    await shot(page, "reloaded");
    return { before, after };
  },

  async reload_while_running({ page }) {
    await openWorkflow(page, { name: "reload while running", model, sampler });
    await viewUntil(page, (seen) => seen.onScreen);
    await queue(page, ++seed, 50);
    const before = await viewUntil(page, (seen) => running(seen, 2));
    await reload(page);
    const after = await watch(page, finished);
    return { before, after };
  },

  /** Another person opens the same workflow in a browser of their own, before a run, during it and after it. */
  async another_person({ page }) {
    await openWorkflow(page, { name: "another person", model, sampler });
    await viewUntil(page, (seen) => seen.onScreen);
    const drawing = await page.evaluate(() => window.app.graph.serialize());
    const browser = await openBrowser(input.chromium, newProfile());
    try {
      const other = await openTab(browser, input.url);
      const events = [];
      other.page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => events.push(String(payload))));
      await other.page.reload();
      await ready(other.page);
      await other.page.evaluate((drawing) => window.app.loadGraphData(drawing, true, true, "same"), drawing);
      const lists = [];
      other.page.on("response", async (answer) => {
        if (!answer.url().includes("/safelight/runs")) return;
        const text = await answer.text().catch(() => null); // the page may close meanwhile
        if (text !== null) lists.push([answer.status(), text]);
      });
      const before = await viewUntil(other.page, (seen) => seen.onScreen);
      await queue(page, ++seed, 30);
      const ours = await viewUntil(page, (seen) => running(seen, 3) && !seen.state.includes("behind")); // with its own picture
      await viewUntil(page, finished);
      const asked = lists.length;
      for (let waited = 0; lists.length === asked && waited < 100; waited++) await page.waitForTimeout(100); // at the end of a run every page asks
      const after = await view(other.page);
      await queue(other.page, ++seed);
      const theirs = await viewUntil(other.page, (seen) => finished(seen) && seen.painted);
      const mine = await view(page);
      return { before, ours, after, theirs, mine, lists, events: events.filter((text) => text.includes(ours.picture.split("/")[4])) };
    } finally {
      await browser.close();
    }
  },

  /** Takes the address that the menu copies to another browser, which then lists the same runs. */
  async other_browser({ page }) {
    await openWorkflow(page, { name: "other browser", model: { ...model, step_ms: 50 }, sampler });
    await queue(page, ++seed);
    await viewUntil(page, (seen) => finished(seen) && seen.painted);
    const drawing = await page.evaluate(() => window.app.graph.serialize());
    const address = await page.evaluate(() => `${location.origin}/safelight/live#key=${localStorage.getItem("Safelight.Key")}`);
    const browser = await openBrowser(input.chromium, newProfile());
    try {
      const other = await openTab(browser, input.url);
      await other.page.evaluate((drawing) => window.app.loadGraphData(drawing, true, true, "same"), drawing);
      const before = await viewUntil(other.page, (seen) => seen.onScreen);
      const paste = async (text) => {
        other.page.evaluate(() => void window.app.extensionManager.command.execute("Safelight.OtherBrowser"));
        const field = other.page.locator("[role=dialog] input").last();
        await field.fill(text);
        await shot(other.page, "other-browser");
        await field.press("Enter");
      };
      await paste("http://somewhere/");
      await other.page.getByText("This is not the address").first().waitFor();
      const refused = await view(other.page);
      await paste(address);
      const listed = await viewUntil(other.page, (seen) => seen.painted);
      return { before, refused, listed };
    } finally {
      await browser.close();
    }
  },

  async stopped({ page }) {
    await openWorkflow(page, { name: "stopped", model, sampler });
    await viewUntil(page, (seen) => seen.onScreen);
    await queue(page, ++seed, 60);
    await viewUntil(page, (seen) => running(seen, 2));
    await interrupt();
    const seen = await viewUntil(page, (seen) => seen.state.includes("interrupted"));
    await shot(page, "stopped");
    return { seen };
  },

  /** Pauses a run and lets it go on, by key; then ends it and keeps the step, by a click and a key. */
  async kept({ page }) {
    await openWorkflow(page, { name: "kept", model: { ...model, step_ms: 400 }, sampler });
    await viewUntil(page, (seen) => seen.onScreen);
    await queue(page, ++seed, 40);
    const control = () =>
      page.evaluate((find) => {
        const root = eval(find).widgets.find(({ name }) => name === "safelight_stage").element.shadowRoot;
        const text = (button) => button.innerText || button.dataset.face;
        return { hidden: root.querySelector(".control").hidden, faces: [...root.querySelectorAll(".control button")].map(text), time: root.querySelector(".parts .time").textContent };
      }, FIND_NODE);
    const until = async (test) => {
      const end = Date.now() + 30_000;
      for (;;) {
        const [seen, shown] = [await view(page), await control()];
        if (test(shown, seen)) return { ...shown, step: seen.step, state: seen.state };
        if (Date.now() > end) throw new Error(`timed out; last: ${JSON.stringify([shown, seen])}`);
        await page.waitForTimeout(30);
      }
    };
    const running_ = await until((shown, seen) => running(seen, 2) && !shown.hidden);
    await focus(page);
    await page.keyboard.press("p");
    await until((shown) => shown.time === "paused");
    await page.waitForTimeout(2000); // the step that was going on ends
    const paused = await until(() => true);
    await page.waitForTimeout(1500); // three steps of a run that does not wait
    const still = await until(() => true);
    await shot(page, "paused");
    await page.keyboard.press("p");
    const on = await until((shown, seen) => shown.time !== "paused" && stepOf(seen) > stepOf(still));
    await clickOn(page, ".control .keep");
    const armed = await until((shown) => shown.faces[1].endsWith("?"));
    await shot(page, "keep");
    await page.keyboard.press("k");
    const kept = await until((shown, seen) => seen.state.includes("stopped") && seen.step.startsWith("kept"));
    await shot(page, "kept");
    return { running: running_, paused, still, on, armed, kept, last: await endOfPrompt(page) };
  },

  /** Chooses two of the four pictures of a batch: one by a click, one by a key; what it sees on the way, also after a reload. */
  async choose({ page }) {
    await page.evaluate(async ({ model, seed }) => {
      const { app, LiteGraph } = window;
      const blank = { version: 0.4, last_node_id: 0, last_link_id: 0, nodes: [], links: [], groups: [], config: {}, extra: {} };
      await app.loadGraphData({ ...blank, id: crypto.randomUUID() }, true, true, "choose draft");
      const add = (type, pos, values) => {
        const node = LiteGraph.createNode(type);
        node.pos = pos;
        app.graph.add(node);
        for (const [name, value] of Object.entries(values)) node.widgets.find((widget) => widget.name === name).value = value;
        return node;
      };
      const advanced = { noise_seed: seed, steps: 8, cfg: 1, control_after_generate: "fixed" };
      const source = add("LabModel", [40, 100], { ...model, batch: 4 });
      const preview = add("SafelightPreview", [380, 100], {});
      const first = add("KSamplerAdvanced", [760, 100], { ...advanced, end_at_step: 3, return_with_leftover_noise: "enable" });
      const choice = add("SafelightChoose", [380, 640], {});
      const last = add("KSamplerAdvanced", [1100, 100], { ...advanced, add_noise: "disable", start_at_step: 3 });
      const digest = add("LabDigest", [1100, 500], {});
      const connect = (from, output, to, name) => from.connect(output, to, to.inputs.findIndex((input) => input.name === name));
      connect(source, 0, preview, "model");
      for (const node of [first, last]) {
        connect(preview, 0, node, "model");
        connect(source, 1, node, "positive");
        connect(source, 1, node, "negative");
      }
      connect(source, 2, first, "latent_image");
      connect(first, 0, choice, "samples");
      connect(preview, 1, choice, "steps");
      connect(choice, 0, last, "latent_image");
      connect(last, 0, digest, "samples");
      const workflow = JSON.parse(JSON.stringify(app.graph.serialize()));
      await app.loadGraphData({ ...workflow, id: crypto.randomUUID() }, true, true, "choose");
    }, { model, seed: ++seed });
    const root = `window.app.graph.nodes.find((node) => node.comfyClass === "SafelightChoose").widgets.find(({ name }) => name === "safelight_chooser").element.shadowRoot`;
    const look = () =>
      page.evaluate((root) => {
        const shown = eval(root);
        const items = [...shown.querySelectorAll(".item")];
        return {
          pressed: items.map((item) => item.ariaPressed === "true"),
          painted: items.map((item) => item.querySelector("img").naturalWidth > 0),
          go: shown.querySelector(".go").textContent,
          left: shown.querySelector(".left").textContent,
          idle: !shown.querySelector(".idle").hidden,
          height: shown.host.offsetHeight,
        };
      }, root);
    const until = async (test) => {
      for (let end = Date.now() + 60_000; ; ) {
        const seen = await look();
        if (test(seen)) return seen;
        if (Date.now() > end) throw new Error(`timed out; last: ${JSON.stringify(seen)}`);
        await page.waitForTimeout(50);
      }
    };
    const asks = (seen) => seen.painted.length === 4 && seen.painted.every(Boolean);
    await until((seen) => seen.idle && seen.height > 100);
    await page.evaluate(() => void window.app.queuePrompt(0));
    const asked = await until(asks);
    const { x, y, width, height } = await page.evaluate((root) => eval(root).querySelectorAll(".item")[2].getBoundingClientRect().toJSON(), root);
    await page.mouse.click(x + width / 2, y + height / 2);
    await page.keyboard.press("1");
    const picked = await until((seen) => seen.pressed[0] && seen.pressed[2]);
    await shot(page, "choose");
    await page.reload(); // the prompt is queued, so its workflow is saved
    await ready(page);
    const reloaded = await until(asks);
    const focusOn = (selector, at) => page.evaluate(({ root, selector, at }) => eval(root).querySelectorAll(selector)[at].focus(), { root, selector, at });
    await focusOn(".item", 3);
    for (const key of [" ", "ArrowRight", "Enter"]) await page.keyboard.press(key);
    const keyed = await until((seen) => seen.pressed[0] && seen.pressed[3]);
    await focusOn(".go", 0);
    await page.keyboard.press("Enter");
    await until((seen) => seen.idle);
    return { asked, picked, reloaded, keyed, status: await endOfPrompt(page) };
  },

  /** The live page: in the same browser, in another one with the address that the menu copies, and in one without it. */
  async live_page({ page, browser }) {
    await browser.grantPermissions(["clipboard-read", "clipboard-write"]);
    await openWorkflow(page, { name: "live page", model: { ...model, step_ms: 500 }, sampler });
    await viewUntil(page, (seen) => seen.onScreen);
    await queue(page, ++seed, 30);
    await viewUntil(page, (seen) => running(seen, 2) && seen.painted);
    const liveView = (page) =>
      page.evaluate(() => {
        const root = document.querySelector("main > *")?.shadowRoot;
        const [img] = root?.querySelectorAll(".pane img") ?? [];
        return { painted: Boolean(img?.naturalWidth), state: root?.querySelector(".viewer").className ?? "", text: root?.querySelector(".placeholder").textContent ?? "", width: document.documentElement.scrollWidth, hash: location.hash };
      });
    const until = async (page, test) => {
      for (let end = Date.now() + 60_000; ; await page.waitForTimeout(50)) {
        const seen = await liveView(page);
        if (test(seen)) return seen;
        if (Date.now() > end) throw new Error(`timed out; last: ${JSON.stringify(seen)}`);
      }
    };
    const open = async (browser, hash = "") => {
      const { page, errors } = await openPage(browser);
      await page.goto(`${input.url}/safelight/live${hash}`);
      return { page, errors };
    };
    const own = await open(browser);
    const here = await until(own.page, (seen) => seen.painted && seen.state.includes("running"));
    await own.page.close();
    await page.keyboard.press("Escape");
    await focus(page);
    await page.keyboard.press("ContextMenu");
    await page.evaluate((root) => [...eval(root).querySelectorAll("[role=menuitem]")].find((item) => item.textContent.startsWith("Copy the address")).click(), ROOT);
    const address = await page.waitForFunction(async () => (await navigator.clipboard.readText()).includes("/safelight/live#key=") && navigator.clipboard.readText());
    const { hash } = new URL(await address.jsonValue());
    const elsewhere = await openBrowser(input.chromium, mkdtempSync(join(input.profiles, "phone-")));
    try {
      const stranger = await open(elsewhere);
      const without = await until(stranger.page, (seen) => seen.text);
      const phone = await open(elsewhere, hash);
      await phone.page.setViewportSize({ width: 390, height: 800 });
      const there = await until(phone.page, (seen) => seen.painted && seen.state.includes("running"));
      await shot(phone.page, "phone");
      const done = await until(phone.page, (seen) => seen.state.includes("finished"));
      return { here, without, there, done, errors: [...own.errors, ...stranger.errors, ...phone.errors].map(({ text }) => text) };
    } finally {
      await elsewhere.close();
    }
  },

  /** The live page on top of other windows, by keyboard; where the browser cannot do that; and a stream in an `<img>`. */
  async on_top({ page, browser }) {
    await openWorkflow(page, { name: "on top", model: { ...model, latent_format: "Wan21", frames: 3, step_ms: 500 }, preview: { frames: "animated" }, sampler });
    await viewUntil(page, (seen) => seen.onScreen);
    await queue(page, ++seed, 30);
    await viewUntil(page, (seen) => running(seen, 2) && seen.painted);
    const choose = async () => {
      await page.bringToFront();
      await page.keyboard.press("Escape");
      await focus(page);
      await page.keyboard.press("ContextMenu");
      const opened = browser.waitForEvent("page");
      const focused = () => page.evaluate((root) => eval(root).activeElement?.textContent, ROOT);
      for (let tries = 0; !(await focused())?.startsWith("Open on top"); tries++) {
        if (tries > 40) throw new Error(`the menu has no such entry: ${await focused()}`);
        await page.keyboard.press("ArrowDown");
      }
      await shot(page, "menu-on-top");
      await page.keyboard.press("Enter");
      (await opened).setDefaultTimeout(90_000); // on a busy machine
      return opened;
    };
    const isPainted = () => {
      const picture = document.querySelector("main > *")?.shadowRoot.querySelector(".pane :is(img, canvas)"); // a video plays on a canvas
      return Boolean(picture?.naturalWidth || picture?.width);
    };
    const onTop = await choose();
    const frame = await (await onTop.waitForSelector("iframe")).contentFrame();
    await frame.waitForFunction(isPainted);
    await onTop.setViewportSize({ width: 280, height: 360 });
    await page.waitForTimeout(300);
    await onTop.screenshot({ path: join(input.shots, "on-top.png") });
    const title = await onTop.evaluate(() => [document.title, document.querySelector("iframe").title, document.documentElement.scrollWidth]);
    await frame.evaluate(() => {
      const key = sessionStorage.getItem("Safelight.LiveKey") ?? Object.entries(localStorage).find(([name]) => name.startsWith("Safelight.Key"))[1];
      document.querySelector("main").before(Object.assign(document.createElement("img"), { id: "stream", src: `live.webp?key=${encodeURIComponent(key)}` }));
    });
    const streamed = await frame.waitForFunction(() => document.querySelector("#stream").naturalWidth).then((found) => found.jsonValue());
    await onTop.close();
    await page.evaluate(() => Object.defineProperty(window, "documentPictureInPicture", { value: undefined, configurable: true }));
    const ordinary = await choose();
    await ordinary.waitForFunction(isPainted);
    const toast = await page.waitForFunction((root) => eval(root).querySelector(".toast.shown")?.textContent, ROOT).then((found) => found.jsonValue());
    const path = await ordinary.evaluate(() => location.pathname);
    await ordinary.close();
    await interrupt();
    await viewUntil(page, (seen) => /interrupted|finished/.test(seen.state));
    return { title, streamed, path, toast };
  },

  /** A rule ends a run: its inputs, and what the node says. */
  async rule({ page }) {
    await openWorkflow(page, { name: "rule", model: { ...model, step_ms: 150 }, sampler });
    await unfold(page);
    const rows = () =>
      page.evaluate((find) => {
        const node = eval(find);
        const inVue = document.querySelector(`[data-node-id="${node.id}"]`)?.innerText;
        const isShown = (name) => (inVue ? inVue.includes(name) : !node.widgets.find((widget) => widget.name === name).hidden);
        return ["stop_below_percent", "stop_after_steps", "send_previews"].filter(isShown);
      }, FIND_NODE);
    const set = async (name, value) => {
      await page.evaluate(({ find, name, value }) => {
        const widget = eval(find).widgets.find((widget) => widget.name === name);
        widget.value = value;
        widget.callback?.(value);
      }, { find: FIND_NODE, name, value });
      await page.waitForTimeout(700);
    };
    const before = await rows();
    await set("stop_below_percent", 1);
    const after = await rows();
    await shot(page, "rule-inputs");
    await set("stop_after_steps", 2);
    await clickOn(page, ".fold");
    const line = await page.evaluate((root) => eval(root).querySelector(".fold").textContent, ROOT);
    await queue(page, ++seed, 60);
    const seen = await viewUntil(page, (seen) => seen.state.includes("stopped") && seen.note.includes(`at ${seen.step.replace(/^kept | \/.*$/g, "")}:`));
    await shot(page, "rule");
    return { before, after, line, seen };
  },

  async failed({ page }) {
    await openWorkflow(page, { name: "failing", model: { ...model, fail_at: 4 }, sampler });
    await queue(page, ++seed);
    const seen = await viewUntil(page, (seen) => seen.state.includes("failed") && seen.painted && seen.note);
    await page.keyboard.press("Escape");
    await shot(page, "failed");
    return { seen };
  },

  async subgraph({ page }) {
    await openWorkflow(page, { name: "nested", model, sampler, subgraph: true });
    await queue(page, ++seed);
    // The node is not visible, so it loads no picture and only shows the end of the run.
    const closed = await viewUntil(page, (seen) => seen.state.includes("finished"));
    await page.evaluate((find) => {
      const { graph } = eval(find);
      window.app.canvas.openSubgraph
        ? window.app.canvas.openSubgraph(graph, window.app.graph.nodes.find((node) => node.subgraph === graph))
        : window.app.canvas.setGraph(graph);
    }, FIND_NODE);
    const open = await viewUntil(page, (seen) => seen.painted && seen.onScreen);
    await shot(page, "subgraph");
    const manifest = await fetch(`${input.url}${open.picture.replace(/\/[^/]*$/, "")}`);
    return { closed, open, node: (await manifest.json()).host.node };
  },

  /** Queues a graph that ComfyUI has in its cache: in another workflow, and from another browser. */
  async cached({ page }) {
    await openWorkflow(page, { name: "cached", model: { ...model, step_ms: 1 }, sampler });
    const drawing = await page.evaluate(() => ({ ...JSON.parse(JSON.stringify(window.app.graph.serialize())), id: crypto.randomUUID() }));
    const open = (of) => of.evaluate((drawing) => window.app.loadGraphData(drawing, true, true, "the same graph"), drawing);
    const first = ++seed;
    await queue(page, first, 3);
    const seen = { first: await viewUntil(page, (now) => now.painted && finished(now)) };
    await open(page);
    seen.before = await viewUntil(page, (now) => now.onScreen && !now.painted);
    await queue(page, first, 3);
    seen.copy = await viewUntil(page, (now) => now.painted).catch(() => view(page));
    const browser = await openBrowser(input.chromium, newProfile());
    try {
      const other = await openTab(browser, input.url);
      await open(other.page);
      await queue(other.page, first, 3);
      seen.stranger = await viewUntil(other.page, (now) => now.placeholder.startsWith("Nothing")).catch(() => view(other.page));
    } finally {
      await browser.close();
    }
    return seen;
  },

  /** Looks at the node of a subgraph: after a run, and after a reload. */
  async outer({ page }) {
    await openWorkflow(page, { name: "outer", model, sampler, subgraph: true });
    const outer = () =>
      page.evaluate(() => {
        const node = window.app.graph.nodes.find((node) => node.subgraph);
        const element = node.widgets.find(({ name }) => name === "safelight_stage")?.element;
        const root = element?.shadowRoot;
        const img = root?.querySelector(".pane img");
        const { width = 0, height = 0 } = element?.getBoundingClientRect() ?? {};
        return { step: root?.querySelector(".parts .step").textContent ?? null, painted: Boolean(img?.naturalWidth), size: [...node.size], box: [width, height], saved: JSON.stringify(node.serialize()) };
      });
    const until = async (test) => {
      const end = Date.now() + 60_000;
      for (;;) {
        const now = await outer();
        if (test(now)) return now;
        if (Date.now() > end) throw new Error(`timed out; last: ${JSON.stringify(now)}`);
        await page.waitForTimeout(50);
      }
    };
    const seen = { before: await outer() };
    await page.evaluate((seed) => (window.app.graph.nodes.find((node) => node.subgraph).widgets.find(({ name }) => name === "seed").value = seed), ++seed);
    await queue(page, seed);
    seen.finished = await until((now) => now.painted && now.step === "step 8 / 8");
    await shot(page, "outer");
    await reload(page);
    seen.reloaded = await until((now) => now.painted && now.step === "step 8 / 8");
    return seen;
  },

  /** Moves the node into a subgraph and out of it again, with a run at each place. */
  async moved({ page }) {
    await openWorkflow(page, { name: "moved", model: { ...model, step_ms: 1 }, sampler });
    const seen = {};
    const run = async (name) => {
      const before = (await view(page)).runs.length;
      await queue(page, ++seed, 2);
      const isNew = (now) => !Object.values(seen).some(({ picture }) => picture === now.picture);
      seen[name] = await viewUntil(page, (now) => now.runs.length === before + 1 && now.painted && isNew(now) && finished(now));
    };
    await run("before");
    await page.evaluate((find) => {
      const { app } = window;
      const { subgraph, node } = app.graph.convertToSubgraph(new Set([eval(find)]));
      app.canvas.openSubgraph ? app.canvas.openSubgraph(subgraph, node) : app.canvas.setGraph(subgraph);
    }, FIND_NODE);
    seen.inside = await viewUntil(page, (now) => now.runs.length === 1 && now.painted && now.onScreen).catch(() => view(page));
    await run("inside_again");
    await page.evaluate((find) => {
      const { app } = window;
      const { graph } = eval(find);
      app.canvas.setGraph(app.graph);
      app.graph.unpackSubgraph(app.graph.nodes.find((node) => node.subgraph?.id === graph.id));
    }, FIND_NODE);
    seen.outside = await viewUntil(page, (now) => now.runs.length === 2 && now.painted && now.onScreen).catch(() => view(page));
    return seen;
  },

  async two_copies({ page }) {
    await openWorkflow(page, { name: "twice", model, sampler });
    return page.evaluate(async (find) => {
      const scripts = await (await fetch("/extensions")).json();
      await import(`${scripts.find((name) => /safelight.*\/comfy\.js$/.test(name))}?second`);
      const node = window.LiteGraph.createNode("SafelightPreview");
      return { widgets: node.widgets.map(({ name }) => name), found: Boolean(eval(find)) };
    }, FIND_NODE);
  },

  /** What the search for nodes finds, best first. */
  async search({ page }) {
    return page.evaluate(() => {
      const { nodeSearchService } = document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s.get("nodeDef");
      const words = ["safelight", "latent preview", "timelapse", "contact sheet", "write every step", "sampler preview"];
      return Object.fromEntries(words.map((word) => [word, nodeSearchService.searchNode(word, [], { limit: 64 }).map(({ name }) => name)]));
    });
  },

  async example({ page }) {
    const drawing = JSON.parse(readFileSync(input.example, "utf8"));
    await page.evaluate((drawing) => window.app.loadGraphData(drawing, true, true, "example"), drawing);
    const seen = await viewUntil(page, (seen) => !seen.painted);
    await page.waitForTimeout(500);
    await page.keyboard.press("Escape");
    await shot(page, "example");
    return page.evaluate(
      async ({ expected, seen }) => {
        const { output } = await window.app.graphToPrompt();
        const nodes = window.app.graph.nodes;
        return { seen, types: nodes.map((node) => node.type), unknown: nodes.filter((node) => !node.comfyClass).length, expected, output };
      },
      { seen, expected: drawing.nodes.map((node) => node.type) },
    );
  },

  /** A batch with a file per picture, then a video whose steps are animated pictures. */
  async several({ page }) {
    await openWorkflow(page, { name: "batch", model: { ...model, step_ms: 50, batch: 3 }, preview: { batch: "all files" }, sampler });
    await queue(page, ++seed);
    const grid = await viewUntil(page, (seen) => finished(seen) && seen.pictures.length === 3);
    const cells = [];
    for (const cell of [1, 2, 3]) cells.push(await lookAt(page, `${FIRST}:nth-child(${cell})`));
    const files = await filesOf(grid);
    await clickOn(page, ".cell:nth-child(2)");
    const one = await viewUntil(page, (seen) => seen.pictures.length === 1);
    const video = { ...model, latent_format: "Wan21", step_ms: 50, frames: 3 };
    await openWorkflow(page, { name: "video", model: video, preview: { frames: "animated" }, sampler });
    await queue(page, ++seed);
    const plays = await viewUntil(page, (seen) => finished(seen) && seen.painted);
    await clickOn(page, ".rail", 0.1);
    const first = await viewUntil(page, (seen) => seen.drawn === 1);
    await page.keyboard.press("ArrowRight");
    const second = await viewUntil(page, (seen) => seen.frame.startsWith("2 / "));
    return { grid, one, plays, first, second, cells, files };
  },

  /** Saves a workflow, saves it under another name, which creates all nodes again under another id, and reloads it. */
  async renamed({ page }) {
    const seen = [];
    const record = async () => {
      const id = await page.evaluate(() => window.app.graph.id);
      const { picture, runs } = await viewUntil(page, (seen) => seen.painted && seen.onScreen).catch(() => view(page));
      seen.push({ id, picture, runs: runs.length });
    };
    const save = async (command, name) => {
      await clickOn(page, ".stage"); // the host checks for changes after a click
      page.evaluate((command) => void window.app.extensionManager.command.execute(command), command);
      const field = page.locator("[role=dialog] input").last();
      await field.fill(name);
      await field.press("Enter");
      await page.waitForFunction((name) => window.app.extensionManager.workflow.activeWorkflow.path.includes(name), name);
    };
    await openWorkflow(page, { name: "unsaved", model: { ...model, step_ms: 50 }, sampler });
    await queue(page, ++seed);
    await viewUntil(page, (seen) => finished(seen) && seen.painted);
    await record();
    await save("Comfy.SaveWorkflow", `one-${seed}`);
    await record();
    await save("Comfy.SaveWorkflowAs", `two-${seed}`);
    await page.waitForFunction((id) => window.app.graph.id !== id, seen[0].id).catch(() => {});
    await record();
    await page.reload(); // a saved workflow has no draft
    await ready(page);
    await record();
    await queue(page, ++seed);
    const { picture } = seen.at(-1);
    await viewUntil(page, (seen) => finished(seen) && seen.picture !== picture);
    await record();
    return { seen };
  },

  /** Clears a workflow, which takes its id, puts new nodes into it, and reloads the page after a run. */
  async cleared({ page }) {
    await openWorkflow(page, { name: "cleared", model, sampler });
    const id = await page.evaluate(async () => {
      const { app, LiteGraph } = window;
      window.confirm = () => true;
      const clipboard = JSON.parse(JSON.stringify(app.graph.serialize()));
      await app.extensionManager.command.execute("Comfy.ClearWorkflow");
      const nodes = {};
      for (const { id, type, pos, widgets_values } of clipboard.nodes) {
        const node = (nodes[id] = LiteGraph.createNode(type));
        node.pos = [...pos];
        app.graph.add(node);
        (widgets_values ?? []).forEach((value, i) => node.widgets?.[i] && (node.widgets[i].value = value));
      }
      for (const [, from, output, to, input] of clipboard.links) nodes[from].connect(output, nodes[to], input);
      return app.graph.id;
    });
    await queue(page, ++seed);
    const before = await viewUntil(page, (seen) => finished(seen) && seen.painted);
    await reload(page);
    const after = await viewUntil(page, (seen) => seen.painted && seen.onScreen);
    await queue(page, ++seed);
    const again = await viewUntil(page, (seen) => finished(seen) && seen.painted && seen.picture !== after.picture);
    return { id, before, after, again };
  },

  /** Opens the workflow in a second tab of the same browser. */
  async second_tab({ page, browser }) {
    const drawing = await page.evaluate(() => window.app.graph.serialize());
    const before = await view(page);
    const other = await openTab(browser, input.url);
    await other.page.evaluate((drawing) => window.app.loadGraphData(drawing, true, true, "beside"), drawing);
    const after = await viewUntil(other.page, (seen) => seen.painted);
    await queue(page, ++seed, 20);
    const during = await viewUntil(other.page, (seen) => seen.state.includes("running") && seen.picture !== after.picture); // listed during the run
    const ours = await viewUntil(page, finished);
    const theirs = await viewUntil(other.page, (seen) => finished(seen) && seen.painted);
    await other.page.close();
    return { before, after, during, ours, theirs, errors: other.errors };
  },

  /** Reads the settings in one line, unfolds and folds them with the keyboard and the mouse, and looks at the list of decoders. */
  async settings_line({ page }) {
    await openWorkflow(page, { name: "line", model: { ...model, latent_format: "Flux2", step_ms: 1 }, sampler });
    await viewUntil(page, (now) => now.onScreen);
    const look = async () => {
      await page.waitForTimeout(600);
      return page.evaluate(({ find, root }) => {
        const node = eval(find);
        const line = eval(root).querySelector(".fold");
        const rows = [...(document.querySelector(`[data-node-id="${node.id}"]`)?.querySelectorAll(".lg-node-widget, .lg-widget-container") ?? [])];
        const visible = rows.length
          ? rows.filter((row) => row.offsetHeight && !row.querySelector(".safelight-first")).map((row) => [row.innerText.split("\n")[0], row.getBoundingClientRect().top])
          : node.widgets.filter((widget) => !widget.hidden && !widget.element).map((widget) => [widget.name, widget.y]);
        const top = rows.length ? node.widgets.at(-1).element.getBoundingClientRect().top : node.widgets.at(-1).y;
        const { options } = node.widgets.find(({ name }) => name === "decoder");
        return {
          line: line.innerText,
          open: line.ariaExpanded,
          rows: visible.map(([name]) => name),
          above: visible.every(([, y]) => y > top),
          offered: options.values.map((value) => [value, options.getOptionLabel(value)]),
          values: node.serialize().widgets_values,
          size: [...node.size],
        };
      }, { find: FIND_NODE, root: ROOT });
    };
    const set = (name, value) =>
      page.evaluate(({ find, name, value }) => {
        const widget = eval(find).widgets.find((widget) => widget.name === name);
        widget.value = value;
        widget.callback?.(value);
      }, { find: FIND_NODE, name, value });
    const seen = { folded: await look() };
    await page.evaluate((root) => eval(root).querySelector(".fold").focus(), ROOT);
    await page.keyboard.press("Enter");
    seen.unfolded = await look();
    await shot(page, "unfolded");
    for (const [name, value] of [["decoder", "sd1-cubic"], ["every_n_steps", 3], ["frames", "animated"]]) await set(name, value);
    seen.changed = await look();
    await clickOn(page, ".fold");
    seen.again = await look();
    await shot(page, "folded");
    const hasModel = await page.evaluate(() => JSON.stringify(window.LiteGraph.registered_node_types.LabModel.nodeData.input).includes('"Flux2"'));
    if (!hasModel) return seen; // ComfyUI 0.3.64
    await queue(page, ++seed, 4);
    const ran = await viewUntil(page, (now) => finished(now) && now.painted && now.note);
    seen.ran = { ...(await look()), note: ran.note, decoder: ran.decoder };
    return seen;
  },

  /** Opens a workflow that was saved when all inputs were rows above the picture, and opens it again as it is saved now. */
  async saved_before({ page }) {
    await openWorkflow(page, { name: "before", model, preview: { decoder: "tiny", frames: "animated" }, sampler });
    await viewUntil(page, (now) => now.onScreen);
    const drawing = await page.evaluate(() => JSON.parse(JSON.stringify(window.app.graph.serialize())));
    const node = drawing.nodes.find(({ type }) => type === "SafelightPreview");
    const usual = [...node.size];
    delete node.properties.safelight_unfolded;
    node.size = [340, 860];
    const open = async (drawing) => {
      await page.evaluate((drawing) => window.app.loadGraphData(drawing, true, true, "saved before"), { ...drawing, id: crypto.randomUUID() });
      await viewUntil(page, (now) => now.onScreen);
      await page.waitForTimeout(700);
      return page.evaluate((find) => {
        const node = eval(find);
        const inputs = Object.fromEntries(node.widgets.map(({ name, value }) => [name, value]));
        return { size: [...node.size], decoder: inputs.decoder, frames: inputs.frames, drawing: JSON.parse(JSON.stringify(window.app.graph.serialize())) };
      }, FIND_NODE);
    };
    const { drawing: saved, ...first } = await open(drawing);
    const { drawing: _, ...second } = await open(saved);
    return { usual, first, second };
  },

  /** Switches previews on all samplers on the node, in its menu and in the settings; counts the welcomes of a new user. */
  async everywhere({ page }) {
    const set = (id, value) => page.evaluate(([id, value]) => window.app.extensionManager.setting.set(id, value), [id, value]);
    const welcomed = () => page.getByText("Safelight is installed").waitFor({ timeout: 4000 }).then(() => true, () => false);
    await set("Safelight.Welcomed", false);
    await set("Safelight.Everywhere", false);
    const seen = { welcomed: [] };
    for (let i = 0; i < 2; i++) {
      await page.reload();
      await ready(page);
      seen.welcomed.push(await welcomed());
      if (!i) await shot(page, "welcome");
    }
    await openWorkflow(page, { name: "everywhere", model, sampler });
    await viewUntil(page, (now) => now.onScreen);
    const look = async () => {
      await page.waitForTimeout(400);
      return page.evaluate((root) => [eval(root).querySelector(".switch").ariaChecked, window.app.extensionManager.setting.get("Safelight.Everywhere")], ROOT);
    };
    seen.before = await look();
    await clickOn(page, ".settings .switch");
    seen.clicked = await look();
    await shot(page, "switched");
    seen.saved = (await (await fetch(`${input.url}/api/settings`)).json())["Safelight.Everywhere"];
    await set("Safelight.Everywhere", false);
    seen.settings = await look();
    await page.evaluate((root) => eval(root).querySelector(".switch").focus(), ROOT);
    await page.keyboard.press("Space");
    seen.key = await look();
    await set("Safelight.Everywhere", false);
    seen.label = await page.evaluate((root) => [eval(root).querySelector(".switch").ariaLabel, eval(root).querySelector(".switch").role], ROOT);
    return seen;
  },

  /** Switches between the denoised and the noisy latents of a video, and saves both; reads its bar. */
  async both_latents({ page }) {
    const film = { ...model, latent_format: "Wan21", step_ms: 20, frames: 3 };
    await openWorkflow(page, { name: "both", model: film, preview: { frames: "animated", show: "both" }, sampler });
    await queue(page, ++seed, 4);
    const seen = { denoised: await viewUntil(page, (now) => finished(now) && now.painted) };
    const look = () =>
      page.evaluate((root) => {
        const tool = eval(root).querySelector(".icon-noise").closest("button");
        return { label: tool.ariaLabel, pressed: tool.ariaPressed, hidden: tool.hidden, fps: eval(root).querySelector(".fps").textContent };
      }, ROOT);
    seen.before = await look();
    await focus(page);
    await page.keyboard.press("n");
    seen.noisy = await viewUntil(page, (now) => now.picture !== seen.denoised.picture && now.painted);
    seen.after = await look();
    await shot(page, "noisy");
    const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("s")]);
    seen.saved = download.suggestedFilename();
    await clickOn(page, ".icon-noise");
    seen.again = await viewUntil(page, (now) => now.picture === seen.denoised.picture && now.painted);
    await openWorkflow(page, { name: "one", model: { ...model, step_ms: 20 }, sampler });
    await queue(page, ++seed, 4);
    await viewUntil(page, (now) => finished(now) && now.painted);
    seen.one = await look();
    return seen;
  },

  /** Zooms the canvas out and in again, and reads which parts of the viewer are drawn. */
  async far({ page }) {
    await openWorkflow(page, { name: "far", model: { ...model, step_ms: 20 }, sampler });
    await queue(page, ++seed);
    await viewUntil(page, (now) => finished(now) && now.painted);
    const at = async (scale) => {
      await page.evaluate((scale) => {
        const { canvas } = window.app;
        canvas.ds.changeScale(scale, [500, 400]);
        canvas.setDirty(true, true);
      }, scale);
      await page.waitForTimeout(600);
      return page.evaluate((root) => {
        const viewer = eval(root).querySelector(".viewer");
        const drawn = [...viewer.children].filter((part) => part.offsetHeight > 1).map((part) => part.className);
        const over = [...viewer.querySelectorAll(".over")].filter((part) => part.offsetHeight).length;
        const line = viewer.querySelector(".progress");
        return { drawn, over, done: line.style.getPropertyValue("--done"), now: line.ariaValueNow };
      }, ROOT);
    };
    const scale = await page.evaluate(() => window.app.canvas.ds.scale);
    const seen = { before: await at(0.6), far: await at(0.4) };
    await shot(page, "far");
    seen.after = await at(0.6);
    await at(scale);
    return seen;
  },

  /** Counts the previews that the nodes show beside the viewer during a run: watched, with the setting off, and without the node. */
  async second_picture({ page }) {
    const hide = (value) => page.evaluate((value) => window.app.extensionManager.setting.set("Safelight.HideSamplerPreview", value), value);
    const previews = () =>
      page.evaluate(() => {
        const { id } = window.app.graph.nodes.find((node) => node.comfyClass === "KSampler");
        const shown = Object.entries(window.app.nodePreviewImages ?? {}).filter(([, urls]) => urls?.length);
        return { sampler: shown.some(([node]) => node === String(id)), host: shown.length > 0 };
      });
    await openWorkflow(page, { name: "second", model, sampler });
    await viewUntil(page, (now) => now.onScreen);
    const seen = {};
    for (const [name, hidden] of [["hidden", true], ["shown", false]]) {
      await hide(hidden);
      await queue(page, ++seed);
      await viewUntil(page, (now) => running(now, 4) && !now.state.includes("behind"));
      seen[name] = await previews();
      await shot(page, `second_${name}`);
      await viewUntil(page, finished);
    }
    await hide(true);
    await page.evaluate((find) => {
      const node = eval(find);
      const [source] = window.app.graph.nodes.filter((other) => other.comfyClass === "LabModel");
      const [target] = window.app.graph.nodes.filter((other) => other.comfyClass === "KSampler");
      window.app.graph.remove(node);
      source.connect(0, target, 0);
      for (const id of Object.keys(window.app.nodePreviewImages)) delete window.app.nodePreviewImages[id];
    }, FIND_NODE);
    await queue(page, ++seed, 30);
    for (let tries = 0; tries < 200 && !seen.removed?.sampler; tries++) {
      await page.waitForTimeout(100);
      seen.removed = await previews();
    }
    await interrupt();
    return seen;
  },

  /** Hides and shows inputs that have no effect; the viewer must keep its size. */
  async hidden({ page }) {
    await openWorkflow(page, { name: "hidden", model, sampler });
    await unfold(page);
    const set = async (name, value) => {
      await page.evaluate(({ find, name, value }) => {
        const widget = eval(find).widgets.find((widget) => widget.name === name);
        if (!widget) return;
        widget.value = value;
        widget.callback?.(value);
      }, { find: FIND_NODE, name, value });
      await page.waitForTimeout(500);
      const { size } = await view(page);
      return page.evaluate(({ find, size }) => {
        const node = eval(find);
        const inVue = document.querySelector(`[data-node-id="${node.id}"]`)?.innerText;
        const names = ["decoder", "file_format", "sheet", "frames", "batch"];
        return { size, seen: names.filter((name) => (inVue ? inVue.includes(name) : !node.widgets.find((widget) => widget.name === name).hidden)) };
      }, { find: FIND_NODE, size });
    };
    const before = { idle: await set(), writes: await set("write_intermediates", true), again: await set("write_intermediates", false) };
    await queue(page, ++seed);
    await viewUntil(page, (seen) => finished(seen) && seen.painted);
    const ran = await set("max_side_px", 1000);
    await reload(page);
    await viewUntil(page, (seen) => seen.painted && seen.onScreen);
    const reloaded = await set("max_side_px", 1001);
    await page.evaluate((find) => {
      const [source] = window.app.graph.nodes.filter((node) => node.comfyClass === "LabModel");
      source.widgets.find(({ name }) => name === "batch").value = 2;
    }, FIND_NODE);
    return { ...before, ran, reloaded, other: await set("max_side_px", 1002) };
  },

  /** Selects the node while the host's properties panel is open; the rows of the panel. */
  async panel({ page }) {
    await openWorkflow(page, { name: "panel", model, sampler });
    const width = async () => (await viewUntil(page, (now) => now.onScreen)).size[0];
    const before = await width();
    const opened = await page.evaluate(async (find) => {
      const stores = document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s;
      if (!stores.has("rightSidePanel")) return false;
      stores.get("rightSidePanel").openPanel("parameters");
      window.app.canvas.select(eval(find));
      stores.get("canvas").updateSelectedItems();
      return true;
    }, FIND_NODE);
    await page.waitForTimeout(1500);
    await shot(page, "panel");
    const inside = await page.evaluate(() => document.querySelector("[data-testid='properties-panel']")?.innerText ?? "");
    await page.evaluate(() => {
      document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s.get("rightSidePanel")?.closePanel?.();
      window.app.canvas.deselectAll?.();
      window.app.canvas.setDirty(true, true);
    });
    await page.waitForTimeout(700);
    return { opened, before, after: await width(), rows: inside.split("\n") };
  },

  /** Moves the canvas with the middle button, beside a node whose run goes on; counts how often another viewer is drawn. */
  async moved_canvas({ page }) {
    await openWorkflow(page, { name: "moved canvas", model, sampler });
    const place = () => page.evaluate(() => (Object.assign(window.app.canvas.ds, { scale: 0.6, offset: [0, 80] }), window.app.canvas.setDirty(true, true)));
    await page.evaluate(() => {
      const node = window.LiteGraph.createNode("SafelightPreview");
      node.pos = [420, 760];
      window.app.graph.add(node);
    });
    await place();
    await viewUntil(page, (seen) => seen.onScreen);
    await queue(page, ++seed);
    await viewUntil(page, (seen) => running(seen, 2) && seen.painted);
    // The layer of the viewer, and where it is in its node on the screen, once the canvas is drawn.
    const placed = () =>
      page.evaluate(
        (find) =>
          new Promise((done) =>
            requestAnimationFrame(() =>
              requestAnimationFrame(() => {
                const { ds, canvas } = window.app.canvas;
                const node = eval(find);
                const { element } = node.widgets.at(-1);
                const [box, ground] = [element.getBoundingClientRect(), canvas.getBoundingClientRect()];
                const at = (axis, edge) => box[edge] - ground[edge] - (node.pos[axis] + ds.offset[axis]) * ds.scale;
                done({ layer: getComputedStyle(element.parentElement).willChange, place: [at(0, "left"), at(1, "top")], offset: [...ds.offset] });
              }),
            ),
          ),
        FIND_NODE,
      );
    const count = await page.evaluateHandle((find) => {
      const other = window.app.graph.nodes.filter(({ comfyClass }) => comfyClass === "SafelightPreview").find(({ id }) => id !== eval(find).id);
      const counts = { drawn: 0 };
      const strip = other.widgets.at(-1).element.shadowRoot.querySelector(".strip");
      new MutationObserver((changes) => (counts.drawn += changes.length)).observe(strip, { attributes: true, subtree: true });
      return counts;
    }, FIND_NODE);
    await viewUntil(page, finished);
    const { drawn } = await count.jsonValue();
    const still = () => page.waitForFunction((find) => !eval(find).widgets.at(-1).element.hasAttribute("data-moving"), FIND_NODE);
    const before = { ...(await placed()), ...(await lookAt(page)) };
    const pan = async (x, y) => {
      await page.mouse.move(x, y);
      await page.mouse.down({ button: "middle" });
      const seen = [];
      for (let i = 1; i <= 5; i++) {
        await page.mouse.move(x - 10 * i, y);
        seen.push(await placed());
        if (i === 3) await shot(page, "moving");
      }
      await page.mouse.up({ button: "middle" });
      await still();
      return [...seen, await placed()];
    };
    const during = await pan(1300, 600); // beside the nodes and the minimap
    const stage = await boxOf(page, ".stage");
    const onViewer = await pan(stage.x + stage.width / 2, stage.y + stage.height / 2);
    await place();
    await placed(); // the jump is a move, which the next frames begin
    await still();
    const after = { ...(await placed()), ...(await lookAt(page)) };
    await page.evaluate((find) => {
      const kept = eval(find);
      window.app.graph.remove(window.app.graph.nodes.find(({ comfyClass, id }) => comfyClass === "SafelightPreview" && id !== kept.id));
    }, FIND_NODE); // a click brings a node to the front
    await focus(page);
    await page.keyboard.press("Home");
    await viewUntil(page, (now) => now.step === "step 1 / 8");
    return { drawn, before, during, onViewer, after };
  },

  /** Opens the list of widgets that the node of a subgraph can show; the names in it. */
  async subgraph_widgets({ page }) {
    await openWorkflow(page, { name: "widgets of a subgraph", model, sampler, subgraph: true });
    const opened = await page.evaluate(() => {
      const stores = document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s;
      if (!stores.has("rightSidePanel")) return false;
      window.app.canvas.select(window.app.graph.nodes.find((node) => node.subgraph));
      stores.get("canvas").updateSelectedItems();
      stores.get("rightSidePanel").openPanel("subgraph");
      return true;
    });
    const rows = () => page.evaluate(() => [...document.querySelectorAll("[data-testid='properties-panel'] [data-nodeid]")].map((row) => row.innerText.split("\n")));
    if (opened) await page.waitForFunction(() => document.querySelector("[data-testid='properties-panel'] [data-nodeid]"));
    await shot(page, "subgraph-widgets");
    const seen = { opened, rows: opened ? await rows() : [] };
    await page.evaluate(() => {
      document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s.get("rightSidePanel")?.closePanel?.();
      window.app.canvas.deselectAll?.();
    });
    return seen;
  },

  /** Bypasses and mutes the node by its shortcuts. */
  async idle_modes({ page }) {
    await openWorkflow(page, { name: "modes", model, sampler });
    await viewUntil(page, (now) => now.onScreen);
    const opacity = () => page.evaluate((find) => getComputedStyle(eval(find).widgets.at(-1).element).opacity, FIND_NODE);
    const seen = [await opacity()];
    for (const mode of [4, 0, 2, 0]) {
      await page.evaluate(({ find, mode }) => {
        eval(find).mode = mode;
        window.app.graph.change?.();
        window.app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState?.();
        window.app.extensionManager.workflow.activeWorkflow.changeTracker.checkState?.();
      }, { find: FIND_NODE, mode });
      await page.waitForTimeout(500);
      seen.push(await opacity());
      if (mode === 4) await shot(page, "bypassed");
    }
    return { seen };
  },

  /** Chooses an animation: its inputs appear without a click on "Show advanced inputs". */
  async animated({ page }) {
    await openWorkflow(page, { name: "animated", model, sampler });
    await unfold(page);
    for (const [name, value] of [["write_intermediates", true], ["animation", "webp"]]) {
      await page.evaluate(({ find, name, value }) => {
        const widget = eval(find).widgets.find((widget) => widget.name === name);
        widget.value = value;
        widget.callback?.(value);
      }, { find: FIND_NODE, name, value });
      await page.waitForTimeout(700);
    }
    await shot(page, "animated");
    return page.evaluate((find) => {
      const node = eval(find);
      const inVue = document.querySelector(`[data-node-id="${node.id}"]`)?.innerText;
      const names = ["animation_fps", "animation_hold_s", "animation_from_step", "animation_to_step", "write_csv"];
      return { seen: names.filter((name) => (inVue ? inVue.includes(name) : !node.widgets.find((widget) => widget.name === name).hidden)), names };
    }, FIND_NODE);
  },

  /** The socket `vae` while settings and links change; each time what a saved workflow contains. */
  async socket({ page }) {
    await openWorkflow(page, { name: "socket", model, sampler });
    await viewUntil(page, (seen) => seen.onScreen);
    const look = async () => {
      await page.waitForTimeout(600);
      return page.evaluate((find) => {
        const node = eval(find);
        const names = (inputs) => inputs.map(({ name }) => name);
        const inVue = [...(document.querySelector(`[data-node-id="${node.id}"]`)?.querySelectorAll(".lg-slot--input") ?? [])].map((slot) => slot.innerText.trim());
        const slots = window.app.graph.serialize().links.filter((link) => String(link[3]) === String(node.id)).map((link) => link[4]);
        const shown = node.inputs.some(({ name }) => name === "vae");
        return { shown, inVue: inVue.length ? inVue.includes("vae") : null, saved: names(node.serialize().inputs), slots, size: [...node.size] };
      }, FIND_NODE);
    };
    const decoder = (value) =>
      page.evaluate(({ find, value }) => {
        const widget = eval(find).widgets.find(({ name }) => name === "decoder");
        widget.value = value;
        widget.callback?.(value);
      }, { find: FIND_NODE, value });
    const link = (connect) =>
      page.evaluate(({ find, connect }) => {
        const [node, { app, LiteGraph }] = [eval(find), window];
        const slot = node.inputs.findIndex(({ name }) => name === "vae");
        if (!connect) return node.disconnectInput(slot);
        const vae = LiteGraph.createNode("LabVae");
        vae.pos = [60, 500];
        app.graph.add(vae);
        vae.connect(0, node, slot);
      }, { find: FIND_NODE, connect });
    const seen = { idle: await look() };
    await decoder("full");
    seen.full = await look();
    await shot(page, "socket");
    await link(true);
    seen.linked = await look();
    await decoder("auto");
    seen.auto = await look();
    const [, prompt] = await Promise.all([
      queue(page, ++seed, 2),
      page.waitForRequest((request) => request.url().endsWith("/prompt") && request.method() === "POST"),
    ]);
    seen.sent = Object.keys(Object.values(prompt.postDataJSON().prompt).find((node) => node.class_type === "SafelightPreview").inputs);
    await viewUntil(page, (now) => now.painted);
    await reload(page);
    await viewUntil(page, (now) => now.onScreen);
    seen.reloaded = await look();
    await link(false);
    seen.unlinked = await look();
    await decoder("full");
    seen.again = await look();
    await queue(page, ++seed, 2);
    const noted = await viewUntil(page, (now) => now.painted && now.note);
    return { ...seen, noted };
  },

  /** Takes pictures away: of a run that writes nothing, of one that writes files, and a single frame of a video. */
  async taken({ page, browser }) {
    await browser.grantPermissions(["clipboard-read", "clipboard-write"]);
    const run = async (name, preview = {}, more = {}) => {
      await openWorkflow(page, { name, model: { ...model, step_ms: 50, ...more }, preview, sampler });
      await queue(page, ++seed);
      await viewUntil(page, (seen) => finished(seen) && seen.painted);
      await focus(page);
    };
    const save = async () => {
      const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("s")]);
      return { seed, name: download.suggestedFilename(), content: readFileSync(await download.path()).toString("base64") };
    };
    await run("taken");
    const live = await save();
    await clickOn(page, ".tools [aria-label^='Copy']");
    await page.waitForFunction((root) => eval(root).querySelector(".toast").textContent === "Copied", ROOT);
    const copied = await page.evaluate(async () => {
      const [item] = await navigator.clipboard.read();
      const { width, height } = await createImageBitmap(await item.getType("image/png"));
      return [width, height];
    });
    const [tab] = await Promise.all([browser.waitForEvent("page"), clickOn(page, ".tools [aria-label^='Open']")]);
    await tab.waitForFunction(() => document.images[0]?.naturalWidth);
    const opened = await tab.evaluate(() => [document.images[0].naturalWidth, document.images[0].naturalHeight]);
    await tab.close();
    const prefix = `mine${seed}`;
    await run("written", { write_intermediates: true, filename_prefix: `taken/${prefix}`, file_format: "webp" });
    const written = { ...(await save()), prefix };
    const file = await fetch(`${input.url}/view?filename=step_0008.webp&subfolder=taken/${prefix}_00001`);
    const onDisk = Buffer.from(await file.arrayBuffer()).toString("base64");
    await run("film", { frames: "animated" }, { latent_format: "Wan21", frames: 3 });
    const video = await save();
    await clickOn(page, ".rail", 0.1);
    await viewUntil(page, (seen) => seen.drawn === 1);
    await focus(page);
    return { live, copied, opened, written, onDisk, video, frame: await save() };
  },

  /** Uses the menu of a picture: continues from a step, twice, uses a seed, opens the workflow of a run. */
  async acted({ page }) {
    await openWorkflow(page, { name: "acted", model: { ...model, step_ms: 50 }, sampler });
    const graph = () =>
      page.evaluate(() => {
        const nodes = window.app.graph.nodes;
        const valuesOf = (node) => Object.fromEntries((node.widgets ?? []).filter(({ name }) => !name.startsWith("safelight")).map(({ name, value }) => [name, value]));
        const links = nodes.flatMap((node) => (node.inputs ?? []).map((input, slot) => [input.widget?.name ?? input.name, node.getInputNode(slot), node.type]).filter(([, from]) => from).map(([name, from, type]) => `${from.type} > ${type}.${name}`));
        return { types: nodes.map(({ type }) => type).sort(), links: links.sort(), values: Object.fromEntries(nodes.map((node) => [node.type, valuesOf(node)])) };
      });
    const toast = () => page.evaluate((root) => eval(root).querySelector(".toast").textContent, ROOT);
    const act = async (label) => {
      await focus(page);
      await page.keyboard.press("Shift+F10");
      const at = await page.evaluate(({ root, label }) => {
        const entries = [...eval(root).querySelectorAll("[role=menuitem]")];
        return entries.findIndex(({ textContent }) => textContent.startsWith(label));
      }, { root: ROOT, label });
      if (at < 0) throw new Error(`the menu has no ${label}`);
      for (let i = 0; i < at; i++) await page.keyboard.press("ArrowDown");
      await shot(page, `menu ${label}`);
      await page.keyboard.press("Enter");
      await page.waitForTimeout(300);
    };
    const first = ++seed;
    await queue(page, first);
    await viewUntil(page, (seen) => finished(seen) && seen.painted);
    await clickOn(page, ".strip", 4 / 7);
    await viewUntil(page, (seen) => seen.step === "step 5 / 8" && seen.painted);
    const seen = { before: await graph(), sizes: [(await view(page)).size] };
    await act("Continue from here");
    seen.branch = { ...(await graph()), toast: await toast() };
    await shot(page, "branch");
    await page.evaluate(() => window.app.extensionManager.command.execute("Comfy.Undo"));
    await page.waitForFunction(() => !window.app.graph.nodes.some(({ type }) => type === "SafelightPickStep"));
    seen.undone = await graph();
    await page.waitForTimeout(1000); // Vue nodes get the viewer of the new node
    seen.sizes.push((await viewUntil(page, (now) => now.painted && now.onScreen)).size);
    await act("Continue from here");
    await page.evaluate(() => {
      const digest = window.LiteGraph.createNode("LabDigest");
      digest.pos = [1900, 900];
      window.app.graph.add(digest);
      window.app.graph.nodes.find(({ type }) => type === "KSamplerAdvanced").connect(0, digest, 0);
    });
    await queue(page, first);
    const branched = () =>
      page.evaluate(() => {
        const [, node] = window.app.graph.nodes.filter(({ type }) => type === "SafelightPreview").sort((a, b) => a.id - b.id);
        const root = node?.widgets.find(({ name }) => name === "safelight_stage")?.element.shadowRoot;
        return { step: root?.querySelector(".parts .step").textContent ?? "", painted: Boolean(root?.querySelector(".pane img")?.naturalWidth) };
      });
    for (let waited = 0; waited < 300 && !/^step (\d+) \/ \1$/.test((await branched()).step); waited++) await page.waitForTimeout(100);
    await page.waitForTimeout(500);
    seen.ran = await branched();
    await shot(page, "branched");
    await page.evaluate(() => {
      const find = (type) => window.app.graph.nodes.find((node) => node.type === type);
      window.app.graph.remove(window.app.graph.nodes.filter(({ type }) => type === "SafelightPreview").sort((a, b) => b.id - a.id)[0]);
      const pick = find("SafelightPickStep");
      pick.connect(pick.outputs.findIndex(({ name }) => name === "model"), find("KSamplerAdvanced"), 0);
    });
    await viewUntil(page, (now) => finished(now) && now.painted);
    await clickOn(page, ".strip", 1 / 7);
    await viewUntil(page, (now) => now.step === "step 2 / 8" && now.painted);
    await act("Continue from here");
    seen.again = { ...(await graph()), toast: await toast() };
    await queue(page, ++seed, 3);
    await viewUntil(page, (now) => finished(now) && now.step === "step 3 / 3" && now.painted);
    await clickOn(page, ".thumb:nth-child(2)"); // the run before
    await viewUntil(page, (now) => now.step.endsWith("/ 8") && now.painted);
    await act("Use this seed");
    seen.seeded = { first, ...(await graph()), toast: await toast() };
    await act("Open the workflow");
    await page.waitForFunction(() => window.app.graph.nodes.find(({ type }) => type === "KSampler")?.widgets.find(({ name }) => name === "steps").value === 8);
    seen.runs = (await viewUntil(page, (now) => now.painted && now.onScreen)).runs.length;
    seen.opened = { ...(await graph()), names: await page.evaluate(() => window.app.extensionManager.workflow.openWorkflows.map(({ filename }) => filename)) };
    return seen;
  },

  /** Copies the path of a run's folder, and opens its files. */
  async written_files({ page, browser }) {
    await browser.grantPermissions(["clipboard-read", "clipboard-write"]);
    const prefix = `files${++seed}`;
    const preview = { write_intermediates: true, filename_prefix: `written/${prefix}`, sheet: true, animation: "webp" };
    await openWorkflow(page, { name: "files", model: { ...model, step_ms: 50 }, preview, sampler });
    await queue(page, seed);
    await viewUntil(page, (seen) => finished(seen) && seen.painted);
    const label = () => page.evaluate((root) => eval(root).querySelector(".parts .files").textContent, ROOT);
    for (let waited = 0; !(await label()).startsWith("12 ") && waited < 100; waited++) await page.waitForTimeout(50);
    const seen = { prefix, label: await label() };
    await clickOn(page, ".parts .files");
    await page.waitForFunction((root) => eval(root).querySelector(".toast").textContent.startsWith("Copied"), ROOT);
    seen.copied = await page.evaluate(() => navigator.clipboard.readText());
    await shot(page, "files");
    const open = async (name) => {
      await focus(page);
      await page.keyboard.press("Shift+F10");
      const entry = page.getByRole("menuitem", { name });
      const [tab] = await Promise.all([browser.waitForEvent("page"), entry.click()]);
      await tab.waitForLoadState();
      return tab;
    };
    const sizeOf = async (name) => {
      const tab = await open(name);
      const size = await tab.evaluate(() => [document.images[0].naturalWidth, document.images[0].naturalHeight]);
      await tab.close();
      return size;
    };
    seen.sheet = await sizeOf("Open the contact sheet");
    seen.animation = await sizeOf("Open the animation");
    const tab = await open("Open the page of this run");
    await tab.waitForFunction(() => document.querySelector("main > div")?.shadowRoot.querySelector(".pane img")?.naturalWidth);
    seen.page = await tab.evaluate(() => ({ origin: self.origin, step: document.querySelector("main > div").shadowRoot.querySelector(".parts .step").textContent }));
    await tab.close();
    return seen;
  },

  /** Drags the picture onto Load Image. */
  async dragged({ page }) {
    await openWorkflow(page, { name: "dragged", model: { ...model, step_ms: 50 }, sampler });
    await queue(page, ++seed);
    await viewUntil(page, (seen) => finished(seen) && seen.painted);
    const drop = await page.evaluate((find) => {
      const node = window.LiteGraph.createNode("LoadImage");
      node.pos = [60, 640];
      window.app.graph.add(node);
      window.app.canvas.setDirty(true, true);
      const { ds, canvas } = window.app.canvas;
      const { left, top } = canvas.getBoundingClientRect();
      return { x: left + (node.pos[0] + 60 + ds.offset[0]) * ds.scale, y: top + (node.pos[1] + 30 + ds.offset[1]) * ds.scale, before: node.widgets.find(({ name }) => name === "image").value };
    }, FIND_NODE);
    await page.waitForTimeout(500);
    const from = await boxOf(page, ".stage");
    await page.mouse.move(from.x + from.width / 2, from.y + from.height / 2);
    await page.mouse.down();
    await page.mouse.move(from.x + from.width / 2 + 10, from.y + from.height / 2 + 10, { steps: 4 });
    await page.mouse.move(drop.x, drop.y, { steps: 8 });
    await page.mouse.move(drop.x + 2, drop.y + 2, { steps: 2 });
    await shot(page, "dragging");
    await page.mouse.up();
    const name = await page
      .waitForFunction((before) => {
        const { value } = window.app.graph.nodes.find(({ type }) => type === "LoadImage").widgets.find(({ name }) => name === "image");
        return value !== before && value;
      }, drop.before, { timeout: 15_000 })
      .then((found) => found.jsonValue());
    await shot(page, "dropped");
    const file = await fetch(`${input.url}/view?type=input&filename=${encodeURIComponent(name)}`);
    const after = await view(page);
    return { seed, name, content: Buffer.from(await file.arrayBuffer()).toString("base64"), after, nodes: await page.evaluate(() => window.app.graph.nodes.length) };
  },

  /** Opens App mode, which hides the graph and shows the selected widgets. */
  async app_mode({ page }) {
    await openWorkflow(page, { name: "app", model: { ...model, step_ms: 50 }, sampler });
    await page.evaluate(async () => {
      const drawing = JSON.parse(JSON.stringify(window.app.graph.serialize()));
      const id = (type) => drawing.nodes.find((node) => node.type === type).id;
      const inputs = [[id("KSampler"), "seed"], [id("SafelightPreview"), "safelight_stage"]];
      Object.assign(drawing.extra, { linearMode: true, linearData: { inputs, outputs: [id("LabDigest")] } });
      await window.app.loadGraphData(drawing, true, true, "an app");
    });
    await queue(page, ++seed);
    const seen = await viewUntil(page, (seen) => finished(seen) && seen.painted && seen.onScreen);
    await shot(page, "app");
    return { seen };
  },
};

await saveSettings(input.url, { "Comfy.VueNodes.Enabled": input.vue });
const browser = await openBrowser(input.chromium, newProfile());
const results = {};
try {
  const tab = await openTab(browser, input.url);
  const selected = process.env.SCENES?.split(" ").filter(Boolean) ?? []; // to run only some of them
  for (const [name, scene] of Object.entries(SCENES)) {
    if (selected.length && !selected.includes(name)) continue;
    results[name] = await scene({ ...tab, browser }).catch((error) => ({ error: String(error.stack) }));
  }
  results.errors = tab.errors;
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(results));
