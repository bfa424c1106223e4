/**
 * Uses the viewer as a user does, on an empty page with generated runs, and reports what it shows.
 *
 * Reads `{chromium, profile, shots, web, animation}` as JSON from stdin, writes JSON to stdout.
 */

import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

import { openBrowser, openPage } from "./page.mjs";

const input = JSON.parse(readFileSync(0, "utf8"));
const PAGE = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<body style="margin: 0; background: #2a2a2d"><div id="here" style="width: 360px; height: 480px; margin: 20px"></div>
<script type="module">
import { Viewer } from "/web/viewer.mjs";

const listeners = new Set();
window.runs = [];
window.notify = () => listeners.forEach((listener) => listener());
window.slow = 0;
window.makeRun = ({ id, state = "finished", steps = 20, total = 20, items = 1, frames = 1, files = items * frames, size = [96, 64], changes = [], ...more }) => ({
  id, state, index: steps, total, started: 1e12 + runs.length * 1000, gone: false, ...more,
  manifest: {
    id, state, space: "sdxl", decoder: { name: "taesdxl" }, seconds: 12.5, notes: more.notes ?? [], cost: more.cost,
    sampler: { steps: total, seed: runs.length, cfg: 7, sigmas: Array.from({ length: total + 1 }, (_, i) => 14.6 * (1 - i / total) ** 3) },
    picture: { width: size[0], height: size[1], shown_width: 8 * size[0], shown_height: 8 * size[1], items, frames, fps: 20 },
    steps: Array.from({ length: steps }, (_, i) => ({
      index: i + 1, change: changes[i] ?? null, sigma: 14.6 * (1 - i / total) ** 3, at: i * 0.5, decode_ms: 2,
      files: Array.from({ length: files }, (_, n) => "step_" + (i + 1) + "_" + n + ".svg"),
    })),
  },
});
window.viewed = [];
window.viewer = new Viewer(document, {
  runs: () => window.runs,
  manifest: async (id) => window.runs.find((run) => run.id === id)?.manifest ?? null,
  picture: (id, file, at) => "/pictures/" + id + "/" + file + "?at=" + at,
  onChange: (listener) => (listeners.add(listener), () => listeners.delete(listener)),
}, {
  onView: (view) => viewed.push(view),
  actions: [({ run, step }) => [
    { label: "Name the step", run: async () => run.id + " at " + step.index },
    { label: "Fail", run: () => { throw new Error("it failed") } },
    { label: "Do more", why: "it cannot be done", run: () => "never" },
  ]],
});
document.querySelector("#here").append(viewer.element);
window.begin = (...runs) => { window.runs = runs.map((run, i) => ({ ...window.makeRun(run), started: 1e12 - i * 1000 })); notify(); };
window.ready = true;
</script>`;

/** A picture with its name; each step and item has another color. */
function picture(id, name) {
  const [, step, n] = /step_(\d+)_(\d+)/.exec(name);
  const hue = ([...id].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) * 37 + n * 24) % 360;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="96" height="64"><rect width="96" height="64" fill="hsl(${hue} 40% ${15 + step * 2}%)"/>
    <circle cx="${16 + (n * 9) % 70}" cy="36" r="${3 + step / 2}" fill="#fffa"/><text x="5" y="14" font-size="11" fill="#fff">${step}.${n}</text></svg>`;
}

const pictures = [];
let delay_ms = 0;
const server = createServer((request, answer) => {
  const { pathname } = new URL(request.url, "http://here");
  const file = pathname.startsWith("/web/") && join(input.web, pathname.slice("/web/".length));
  const send = (type, body) => answer.writeHead(200, { "Content-Type": type }).end(body);
  if (pathname === "/") send("text/html", PAGE);
  else if (file && existsSync(file)) send("text/javascript", readFileSync(file));
  else if (pathname.startsWith("/pictures/lost")) answer.writeHead(404).end();
  else if (pathname.startsWith("/pictures/")) {
    const [, , id, name] = pathname.split("/");
    pictures.push(`${id} ${name}`);
    const animation = id === "webp" && readFileSync(input.animation);
    setTimeout(() => (animation ? send("image/webp", animation) : send("image/svg+xml", picture(id, name))), delay_ms);
  } else answer.writeHead(404).end();
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const url = `http://127.0.0.1:${server.address().port}/`;

const browser = await openBrowser(input.chromium, input.profile);
const { page, errors } = await openPage(browser);
const shot = (name) => page.screenshot({ path: join(input.shots, `${name}.png`) });

const view = () =>
  page.evaluate(() => {
    const root = viewer.element.shadowRoot;
    const text = (selector) => root.querySelector(selector).textContent;
    const names = (selector) => [...root.querySelectorAll(selector)].map((img) => img.src.split("/pictures/")[1].split("?")[0].replace("/", " "));
    const shown = (selector) => {
      const box = root.querySelector(selector)?.getBoundingClientRect();
      return Boolean(box?.width);
    };
    const box = ({ x, y, width, height }) => [x, y, width, height].map(Math.round);
    return {
      state: root.querySelector(".viewer").className,
      a: names(".pane:first-child img"),
      b: shown(".pane:last-child") ? names(".pane:last-child img") : [],
      drawn: [...root.querySelectorAll(".pane:first-child canvas")].map((canvas) => [...canvas.getContext("2d").getImageData(9, 9, 1, 1).data].join()),
      mode: root.querySelector(".stage").dataset.mode,
      step: text(".parts .step"),
      caption: root.querySelector(".parts").title,
      placeholder: text(".placeholder"),
      note: text(".note-text"),
      live: root.querySelector(".live").dataset.is,
      live_text: shown(".live") ? text(".live") : null,
      frame: shown(".frames") ? text(".frames .frame") : null,
      back: shown(".tools button:first-child"),
      parts: ["stage", "strip", "caption", "runs"].map((name) => box(root.querySelector(`.${name}`).getBoundingClientRect())),
      board: box(root.querySelector(".board").getBoundingClientRect()),
      thumbs: [...root.querySelectorAll(".thumb")].map((thumb) => `${thumb.dataset.mark}${thumb.querySelector("img") ? "" : " empty"}`),
      tags: [...root.querySelectorAll(".tag")].map((tag) => tag.textContent),
      differences: text(".differences"),
      full: root.querySelector("dialog").open,
    };
  });

async function viewUntil(test) {
  const end = Date.now() + 10_000;
  for (;;) {
    const seen = await view();
    if (test(seen)) return seen;
    if (Date.now() > end) throw new Error(`timed out; last view: ${JSON.stringify(seen)}`);
    await page.waitForTimeout(20);
  }
}

const begin = (...runs) => page.evaluate((runs) => begin(...runs), runs);
const focus = () => page.evaluate(() => viewer.element.shadowRoot.querySelector(".viewer").focus());
const press = async (...keys) => {
  await focus();
  for (const key of keys) await page.keyboard.press(key);
};
const center = async (selector) => {
  const [x, y, width, height] = await page.evaluate((selector) => {
    const box = viewer.element.shadowRoot.querySelector(selector).getBoundingClientRect();
    return [box.x, box.y, box.width, box.height];
  }, selector);
  return [x + width / 2, y + height / 2];
};

/** `comfy-input-bg`, `input-text` and `descrip-text` of ComfyUI's palettes. Source: ComfyUI_frontend 1.49, `colorPalettes`. */
const PALETTES = {
  arc: ["#2b2f38", "#ddd", "#b2b7bd"],
  dark: ["#222", "#ddd", "#999"],
  github: ["#161b22", "#bcc2c8", "#999"],
  light: ["#c9c9c9", "#222", "#444"],
  nord: ["#2e3440", "#bcc2c8", "#999"],
  solarized: ["#002b36", "#93a1a1", "#586e75"],
};

const SCENES = {
  async states() {
    const seen = { idle: await view() };
    await page.evaluate(() => begin({ id: "waits", state: "running", steps: 0 }));
    seen.waiting = await view();
    await page.evaluate(() => begin({ id: "runs", state: "running", steps: 7 }, { id: "before" }));
    seen.running = await viewUntil((now) => now.a[0] === "runs step_7_0.svg");
    await page.evaluate(() => begin({ id: "killed", state: "running", steps: 7, written: 1e12 }, { id: "before" }));
    seen.killed = await viewUntil((now) => now.a[0] === "killed step_7_0.svg");
    await page.evaluate(() => begin({ id: "fails", state: "failed", steps: 5, notes: ["RuntimeError: shapes"] }, { id: "before" }));
    seen.failed = await viewUntil((now) => now.a[0] === "fails step_5_0.svg");
    await shot("failed");
    await page.evaluate(() => begin({ id: "stops", state: "interrupted", steps: 3 }, { id: "before" }));
    seen.interrupted = await viewUntil((now) => now.a[0] === "stops step_3_0.svg");
    await page.evaluate(() => ((runs[0].gone = true), notify()));
    seen.gone = await view();
    await press("2");
    await viewUntil((now) => now.a[0]?.startsWith("before"));
    await page.evaluate(() => begin({ id: "lost", gone: true }, { id: "before" }));
    seen.lost = await viewUntil((now) => now.state.includes("behind"));
    return seen;
  },

  async slow() {
    pictures.length = 0;
    delay_ms = 150;
    for (let steps = 1; steps <= 20; steps++) {
      await begin({ id: "slow", state: steps < 20 ? "running" : "finished", steps });
      await page.waitForTimeout(20);
    }
    const seen = await viewUntil((now) => now.a[0] === "slow step_20_0.svg");
    delay_ms = 0;
    return { seen, requested: pictures.filter((name) => name.startsWith("slow ")) };
  },

  async ahead() {
    await begin({ id: "ahead" });
    await viewUntil((now) => now.a[0] === "ahead step_20_0.svg");
    pictures.length = 0;
    await press("Home");
    await viewUntil((now) => now.a[0] === "ahead step_1_0.svg");
    await page.waitForTimeout(150);
    return { requested: [...pictures] };
  },

  /** Points at the strip of one run, then of another run whose pictures load slowly. */
  async hover() {
    const peek = () =>
      page.evaluate(() => {
        const canvas = viewer.element.shadowRoot.querySelector(".peek");
        return { drawn: canvas.getContext("2d").getImageData(9, 9, 1, 1).data[3] > 0, where: viewer.element.shadowRoot.querySelector(".where").textContent };
      });
    const point = async (dx) => {
      const [x, y] = await center(".strip");
      await page.mouse.move(x + dx, y);
    };
    const drawn = async () => {
      for (let waited = 0; !(await peek()).drawn && waited < 100; waited++) await page.waitForTimeout(20);
      return peek();
    };
    await begin({ id: "one" });
    await viewUntil((now) => now.a[0] === "one step_20_0.svg");
    await point(0);
    const first = await drawn();
    await page.mouse.move(2, 2);
    await begin({ id: "two" }, { id: "one" });
    await viewUntil((now) => now.a[0] === "two step_20_0.svg");
    delay_ms = 400;
    await point(-60);
    const before = await peek();
    const after = await drawn();
    delay_ms = 0;
    await page.mouse.move(2, 2);
    return { first, before, after };
  },

  /** Points at the strip of runs of several sizes; the sides of the picture above it. */
  async hover_sizes() {
    const seen = {};
    for (const size of [[96, 64], [64, 96], [54, 96], [24, 96]]) {
      await begin({ id: `size ${size}`, size });
      await viewUntil((now) => now.a[0]?.startsWith("size"));
      await page.mouse.move(2, 2);
      await page.mouse.move(...(await center(".strip")));
      await page.waitForTimeout(100);
      seen[size.join("x")] = await page.evaluate(() => {
        const canvas = viewer.element.shadowRoot.querySelector(".peek");
        const { width, height } = canvas.getBoundingClientRect();
        return { shown: width / height, drawn: canvas.width / canvas.height, height };
      });
    }
    await page.mouse.move(2, 2);
    return seen;
  },

  /** Points at steps that a run does not have. */
  async beyond() {
    const point = async (fraction) => {
      const { x, y, width, height } = await page.evaluate(() => {
        const { x, y, width, height } = viewer.element.shadowRoot.querySelector(".strip").getBoundingClientRect();
        return { x, y, width, height };
      });
      await page.mouse.move(2, 2);
      await page.mouse.move(x + 10 + (width - 20) * fraction, y + height / 2);
      await page.waitForTimeout(150);
      return page.evaluate(() => {
        const root = viewer.element.shadowRoot;
        return { text: root.querySelector(".where").textContent, picture: root.querySelector(".peek").offsetWidth > 0 };
      });
    };
    await begin({ id: "beyond", state: "running", steps: 7 });
    await viewUntil((now) => now.a[0] === "beyond step_7_0.svg");
    const running = await point(17 / 19);
    const before = await point(4 / 19);
    await begin({ id: "beyond", state: "interrupted", steps: 7 });
    const stopped = await point(17 / 19);
    await page.mouse.move(2, 2);
    return { running, before, stopped };
  },

  /** Wipes from edge to edge of portraits, beside which the stage is empty. */
  async wiped() {
    await begin({ id: "a", size: [48, 96] }, { id: "b", size: [48, 96] });
    await viewUntil((now) => now.a[0]?.startsWith("a "));
    await press("c");
    const { board } = await viewUntil((now) => now.mode === "wipe" && now.b.length);
    const at = () => page.evaluate(() => viewer.element.shadowRoot.querySelector(".wipe").getBoundingClientRect().x + 1);
    const seen = [];
    for (const x of [board[0] - 30, board[0] + board[2] / 2, board[0] + board[2] + 30]) {
      await page.mouse.click(x, board[1] + board[3] / 2);
      seen.push(await at());
    }
    await press("Escape");
    return { board, at: seen };
  },

  /** Looks at an early step of a run that goes on. */
  async looking_back() {
    await begin({ id: "live", state: "running", steps: 4 });
    await viewUntil((now) => now.a[0] === "live step_4_0.svg");
    await press("Home", "ArrowRight");
    await viewUntil((now) => now.a[0] === "live step_2_0.svg");
    await page.evaluate(() => begin({ id: "live", state: "running", steps: 9 }));
    await page.waitForTimeout(300);
    const { a } = await view();
    const thumbnail = await page.evaluate(() => viewer.element.shadowRoot.querySelector(".thumb img").src.split("/pictures/")[1].split("?")[0].replace("/", " "));
    return { shown: a[0], thumbnail };
  },

  async long_note() {
    const text = "decoder one is used in place of decoder two, which failed on this device. ".repeat(5);
    const sizes = () =>
      page.evaluate(() => {
        const note = viewer.element.shadowRoot.querySelector(".note-text");
        return { shown: note.clientHeight, whole: note.scrollHeight };
      });
    await begin({ id: "noted", notes: [text] });
    await viewUntil((now) => now.a[0] === "noted step_20_0.svg");
    const cut = await sizes();
    await page.mouse.click(...(await center(".note-text")));
    const unfolded = await sizes();
    await shot("unfolded");
    await begin({ id: "noted", notes: [`another ${text}`] });
    return { cut, unfolded, another: await sizes() };
  },

  /** The colors of the viewer in each palette, as `[red, green, blue]`. */
  async palettes() {
    const seen = {};
    for (const [name, colors] of Object.entries(PALETTES)) {
      seen[name] = await page.evaluate((colors) => {
        const root = document.documentElement.style;
        ["--comfy-input-bg", "--input-text", "--descrip-text"].forEach((name, i) => root.setProperty(name, colors[i]));
        const probe = viewer.element.shadowRoot.querySelector(".viewer").appendChild(document.createElement("i"));
        const context = document.createElement("canvas").getContext("2d");
        const read = (name) => {
          probe.style.color = `var(${name})`;
          context.fillStyle = getComputedStyle(probe).color;
          context.fillRect(0, 0, 1, 1);
          return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
        };
        const found = Object.fromEntries(["background", "text", "quiet", "accent"].map((name) => [name, read(`--${name}`)]));
        probe.remove();
        return found;
      }, colors);
      await shot(`palette_${name}`);
    }
    await page.evaluate(() => document.documentElement.removeAttribute("style"));
    return seen;
  },

  async batch() {
    await begin({ id: "batch", items: 4 });
    const grid = await viewUntil((now) => now.a.length === 4);
    await shot("batch");
    await page.mouse.click(...(await center(".cell:nth-child(3)")));
    const one = await viewUntil((now) => now.a.length === 1);
    await press("ArrowLeft");
    const before = await viewUntil((now) => now.a[0] === "batch step_19_2.svg");
    await press("Escape");
    return { grid, one, before, again: await viewUntil((now) => now.a.length === 4) };
  },

  /** With reduced motion in the system settings. */
  async reduced_motion() {
    await page.emulateMedia({ reducedMotion: "reduce" });
    await begin({ id: "reduced", frames: 12 });
    await viewUntil((now) => now.a[0] === "reduced step_20_0.svg");
    await page.waitForTimeout(300);
    const held = await view();
    await begin({ id: "webp", frames: 12, files: 1 });
    const thumbs = () => page.evaluate(() => [...viewer.element.shadowRoot.querySelectorAll(".thumb > *")].map(({ localName }) => localName));
    for (let waited = 0; !(await thumbs()).length && waited < 100; waited++) await page.waitForTimeout(50);
    const still = await thumbs();
    await page.emulateMedia({ reducedMotion: "no-preference" });
    return { held, still };
  },

  async video() {
    await begin({ id: "video", frames: 12 });
    const frames = new Set();
    await viewUntil((now) => frames.add(now.frame) && frames.size > 8);
    await shot("video");
    const faces = await page.evaluate(() => [".frames button", ".caption .play"].map((part) => viewer.element.shadowRoot.querySelector(part).dataset.face.replace("pause", "play")));
    await page.mouse.click(...(await center(".frames button")));
    await page.waitForTimeout(200);
    const held = await view();
    await page.waitForTimeout(200);
    const still = await view();
    await page.mouse.click(...(await center(".rail")));
    const middle = await viewUntil((now) => now.frame === "7 / 12");
    await page.keyboard.press("ArrowRight");
    const next = await viewUntil((now) => now.frame === "8 / 12");
    await press("ArrowLeft");
    const before = await viewUntil((now) => now.a[0] === "video step_19_7.svg");
    await begin({ id: "webp", frames: 12, files: 1 });
    await page.mouse.click(...(await center(".frames button"))); // the video before was paused
    const animated = await viewUntil((now) => now.a[0] === "webp step_20_0.svg");
    await page.mouse.click(...(await center(".rail")));
    await viewUntil((now) => now.frame === "7 / 12" && now.drawn.length);
    const single = await view();
    await page.keyboard.press("ArrowRight");
    const further = await viewUntil((now) => now.drawn[0] !== single.drawn[0]);
    return { held, still, middle, next, before, animated, single, further, faces };
  },

  async compare() {
    await begin({ id: "a", steps: 20 }, { id: "b", steps: 10, total: 10 }, { id: "c" });
    await viewUntil((now) => now.a[0] === "a step_20_0.svg");
    await page.keyboard.down("Shift");
    await page.mouse.click(...(await center(".thumb:nth-child(2)")));
    await page.keyboard.up("Shift");
    const seen = { wipe: await viewUntil((now) => now.b[0] === "b step_10_0.svg") };
    await page.mouse.click(...(await center(".strip")));
    seen.step = await viewUntil((now) => now.a[0] === "a step_11_0.svg" && now.b[0] === "b step_10_0.svg");
    await page.mouse.click(...(await center("[aria-label^='Both at the same noise']")));
    seen.sigma = await viewUntil((now) => now.b[0] === "b step_6_0.svg");
    await page.mouse.click(...(await center("[aria-label^='Side']")));
    seen.side = await viewUntil((now) => now.mode === "side");
    await page.mouse.move(...(await center(".pane:last-child")));
    await page.mouse.wheel(0, -300);
    await page.waitForTimeout(50);
    seen.boards = await page.evaluate(() => [...viewer.element.shadowRoot.querySelectorAll(".board")].map((board) => board.style.cssText));
    await shot("side");
    await press("3");
    seen.third = await viewUntil((now) => now.b[0]?.startsWith("c "));
    await press("Escape", "Escape");
    seen.after = await viewUntil((now) => now.mode === "one");
    seen.viewed = await page.evaluate(() => viewed);
    return seen;
  },

  async zoomed() {
    await begin({ id: "zoom" });
    await viewUntil((now) => now.a[0] === "zoom step_20_0.svg");
    const fit = await view();
    const [x, y] = await center(".stage");
    await page.mouse.move(x, y);
    await page.mouse.wheel(0, -300);
    const close = await view();
    await press("ArrowLeft");
    const moved = await viewUntil((now) => now.a[0] === "zoom step_19_0.svg");
    await page.mouse.dblclick(x, y);
    const again = await view();
    await press("z");
    const one = await view();
    await press("z");
    const [download] = await Promise.all([page.waitForEvent("download"), press("s")]);
    await press("f");
    const full = await viewUntil((now) => now.full);
    await press("Escape");
    return { fit, close, moved, again, one, saved: download.suggestedFilename(), full, back: await viewUntil((now) => !now.full && String(now.board) === String(fit.board)) };
  },

  /** Exports to the clipboard, to a tab and to files. */
  async exported() {
    const button = async (name) => page.mouse.click(...(await center(`.tools [aria-label^='${name}']`)));
    const toast = () => page.evaluate(() => viewer.element.shadowRoot.querySelector(".toast").textContent);
    await browser.grantPermissions(["clipboard-read", "clipboard-write"]);
    await begin({ id: "exported" });
    await viewUntil((now) => now.a[0] === "exported step_20_0.svg");
    await button("Copy");
    await page.waitForFunction(() => viewer.element.shadowRoot.querySelector(".toast").textContent === "Copied");
    const copied = await page.evaluate(async () => {
      const [item] = await navigator.clipboard.read();
      const { width, height } = await createImageBitmap(await item.getType("image/png"));
      return [width, height];
    });
    const [tab] = await Promise.all([browser.waitForEvent("page"), button("Open")]);
    const opened = new URL(tab.url() === "about:blank" ? await tab.waitForURL("**/pictures/**").then(() => tab.url()) : tab.url()).pathname;
    await tab.close();
    await page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined, configurable: true }));
    await button("Copy");
    await page.waitForFunction(() => !viewer.element.shadowRoot.querySelector(".toast").textContent.startsWith("Copied"));
    const refused = await toast();
    await begin({ id: "batch", items: 3 });
    await viewUntil((now) => now.a.length === 3);
    const disabled = await page.evaluate(() => [...viewer.element.shadowRoot.querySelectorAll(".tools :disabled")].map(({ ariaLabel }) => ariaLabel));
    const saved = [];
    page.on("download", (download) => saved.push(download.suggestedFilename()));
    await press("s");
    for (let waited = 0; saved.length < 3 && waited < 100; waited++) await page.waitForTimeout(50);
    return { copied, opened, refused, disabled, saved };
  },

  /** Compares two steps of one run, two pictures of a batch, and a picture that stays with another run. */
  async pinned() {
    const seen = {};
    await begin({ id: "p", items: 4 }, { id: "q", items: 4 });
    await viewUntil((now) => now.a.length === 4);
    await press("ArrowDown", "ArrowDown");
    seen.second = await viewUntil((now) => now.a[0] === "p step_20_1.svg" && now.a.length === 1);
    await press("b");
    seen.itself = await viewUntil((now) => now.b.length === 1);
    await press("ArrowDown");
    seen.items = await viewUntil((now) => now.a[0] === "p step_20_2.svg");
    await press("Home");
    seen.steps = await viewUntil((now) => now.a[0] === "p step_1_2.svg");
    await press("2");
    seen.runs = await viewUntil((now) => now.a[0] === "q step_1_2.svg");
    await page.mouse.click(...(await center("[aria-label^='B stays']")));
    seen.follows = await viewUntil((now) => now.b[0] === "p step_1_2.svg");
    await press("b", "End");
    seen.keeps = await viewUntil((now) => now.a[0] === "q step_20_2.svg");
    await press("c", "ArrowUp", "ArrowUp", "ArrowUp");
    seen.all = await viewUntil((now) => now.a.length === 4 && !now.b.length);
    await page.keyboard.down("Shift");
    await page.mouse.click(...(await center(".cell:first-child")));
    await page.keyboard.up("Shift");
    seen.clicked = await viewUntil((now) => now.b.length === 1);
    await press("Escape", "Escape");
    await begin({ id: "one" });
    await viewUntil((now) => now.a[0] === "one step_20_0.svg");
    const { x, y, width, height } = await page.evaluate(() => JSON.parse(JSON.stringify(viewer.element.shadowRoot.querySelector(".strip").getBoundingClientRect())));
    await page.keyboard.down("Shift");
    await page.mouse.click(x + 12, y + height / 2);
    await page.keyboard.up("Shift");
    seen.strip = await viewUntil((now) => now.b[0] === "one step_1_0.svg");
    await press("ArrowUp");
    seen.no_batch = await view();
    for (const size of [340, 400]) {
      await page.evaluate((size) => (document.querySelector("#here").style.width = `${size}px`), size);
      await page.mouse.click(...(await center("[aria-label^='Side']")));
      await page.waitForTimeout(100);
      seen[size] = await page.evaluate(() => [...viewer.element.shadowRoot.querySelectorAll(".pane")].map((pane) => [pane.offsetLeft, pane.offsetTop, pane.offsetWidth, pane.offsetHeight]));
      await shot(`side_${size}`);
    }
    await page.evaluate(() => (document.querySelector("#here").style.width = "360px"));
    await page.mouse.click(...(await center("[aria-label^='Wipe']")));
    await press("Escape");
    return seen;
  },

  /** The film strip in the full window, of a run with a thousand steps. */
  async film() {
    const film = () =>
      page.evaluate(() => {
        const film = viewer.element.shadowRoot.querySelector(".film");
        const options = [...film.querySelectorAll("[role=option]")];
        const { left, right } = film.getBoundingClientRect();
        const isInView = (option) => option.getBoundingClientRect().right > left && option.getBoundingClientRect().left < right;
        return {
          visible: film.offsetWidth > 0,
          steps: options.map(({ dataset }) => Number(dataset.step)),
          inView: options.filter(isInView).length,
          pictures: options.filter((option) => isInView(option) && option.querySelector("canvas")).length,
          selected: options.filter(({ ariaSelected }) => ariaSelected === "true").map(({ dataset, ariaLabel }) => [dataset.step, ariaLabel]),
          active: film.getAttribute("aria-activedescendant"),
        };
      });
    const loaded = async () => {
      for (let waited = 0; waited < 200; waited++) {
        const now = await film();
        if (now.pictures === now.inView) return now;
        await page.waitForTimeout(20);
      }
      return film();
    };
    await begin({ id: "film", steps: 1000, total: 1000 });
    await viewUntil((now) => now.a[0] === "film step_1000_0.svg");
    const seen = { closed: await film() };
    pictures.length = 0;
    await press("f");
    await viewUntil((now) => now.full);
    seen.open = await loaded();
    seen.requested = pictures.length;
    await shot("film");
    await press("Home");
    await viewUntil((now) => now.a[0] === "film step_1_0.svg");
    seen.first = await loaded();
    await page.mouse.click(...(await center(".film [data-step='4']")));
    await viewUntil((now) => now.a[0] === "film step_4_0.svg");
    await page.keyboard.down("Shift");
    await page.mouse.click(...(await center(".film [data-step='7']")));
    await page.keyboard.up("Shift");
    seen.compared = (await viewUntil((now) => now.b[0] === "film step_7_0.svg")).tags;
    await shot("film_compared");
    await press("Escape");
    await page.mouse.move(...(await center(".film")));
    await page.mouse.wheel(0, 20_000);
    await page.waitForTimeout(100);
    seen.scrolled = await loaded();
    await page.evaluate(() => viewer.element.shadowRoot.querySelector(".film").focus());
    await page.keyboard.press("ArrowRight");
    await viewUntil((now) => now.a[0] === "film step_5_0.svg");
    seen.key = await loaded();
    seen.moves_ms = await page.evaluate(async () => {
      const began = performance.now();
      for (let i = 0; i < 100; i++) viewer.element.shadowRoot.querySelector(".viewer").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
      return (performance.now() - began) / 100;
    });
    await press("Escape");
    await viewUntil((now) => !now.full);
    seen.after = await film();
    return seen;
  },

  /** A run whose picture changes less and less: its bars, its figures, and the step at which it settled. */
  async settled() {
    const changes = Array.from({ length: 20 }, (_, i) => (i ? 0.12 * 0.75 ** Math.max(0, i - 5) * (1 - 0.6 * (i > 13)) : null));
    const cost = { sampler_ms: 14.25, end_ms: 31, memory_mb: 3.25, device: "cpu" };
    await begin({ id: "restless", changes: changes.map((change) => change && 0.1), cost }, { id: "settles", changes, cost });
    await viewUntil((now) => now.a[0]?.startsWith("restless"));
    const look = () =>
      page.evaluate(() => {
        const root = viewer.element.shadowRoot;
        const rows = [...root.querySelectorAll(".figures dt")].map((name) => [name.textContent, name.nextSibling.textContent]);
        const bars = [...root.querySelector(".strip .bars").getAttribute("d").matchAll(/v([\d.]+)h/g)].map(([, length]) => Number(length));
        const flag = root.querySelector(".strip .settled").getAttribute("d");
        return { label: root.querySelector(".parts .settled").textContent, bars, flag, card: root.querySelector(".figures").offsetWidth > 0, rows: Object.fromEntries(rows), text: root.querySelector(".strip").ariaValueText };
      });
    const seen = { restless: await look() };
    await press("2");
    await viewUntil((now) => now.a[0]?.startsWith("settles"));
    seen.settles = await look();
    await page.mouse.click(...(await center(".parts .settled")));
    seen.went = (await viewUntil((now) => now.a[0] === `settles step_${/\d+/.exec(seen.settles.label)}_0.svg`)).step;
    const [x, y] = await center(".strip");
    await page.mouse.move(x, y);
    await page.waitForTimeout(100);
    seen.hover = await page.evaluate(() => viewer.element.shadowRoot.querySelector(".bubble .changed").textContent);
    await shot("settled");
    await page.mouse.move(2, 2);
    await press("i");
    seen.figures = await look();
    await shot("figures");
    await press("i");
    await page.mouse.click(...(await center(".parts .step")));
    seen.clicked = await look();
    await press("Escape");
    seen.closed = await look();
    await begin({ id: "runs", state: "running", steps: 7, changes });
    await viewUntil((now) => now.a[0] === "runs step_7_0.svg");
    await press("i");
    seen.running = await look();
    await shot("figures_running");
    await press("Escape");
    return seen;
  },

  /** Opens the menu with the keyboard and with its button, and uses its entries. */
  async menu() {
    await begin({ id: "acted" });
    await viewUntil((now) => now.a[0] === "acted step_20_0.svg");
    await press("ArrowLeft");
    await viewUntil((now) => now.a[0] === "acted step_19_0.svg");
    const look = () =>
      page.evaluate(() => {
        const root = viewer.element.shadowRoot;
        const menu = root.querySelector("[role=menu]");
        const { activeElement } = root;
        return {
          open: menu.offsetWidth > 0,
          entries: [...menu.querySelectorAll("[role=menuitem]")].map(({ textContent }) => textContent),
          focused: activeElement?.textContent === root.querySelector(".viewer").textContent ? "viewer" : activeElement?.textContent,
          toast: root.querySelector(".toast").textContent,
          expanded: root.querySelector("[aria-haspopup=menu]")?.ariaExpanded,
        };
      });
    const choose = async (label) => {
      await press("Shift+F10");
      for (let i = 0; i < 20 && (await look()).focused !== label; i++) await page.keyboard.press("ArrowDown");
      await page.keyboard.press("Enter");
      await page.waitForTimeout(50);
      return look();
    };
    await press("ContextMenu");
    const seen = { opened: await look() };
    await shot("menu");
    await page.keyboard.press("ArrowUp");
    seen.last = await look();
    await page.keyboard.press("ArrowDown");
    seen.around = await look();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Escape");
    seen.closed = { ...(await look()), step: (await view()).step };
    seen.named = await choose("Name the step");
    seen.failed = await choose("Fail");
    seen.refused = await choose("Do more");
    await page.mouse.click(...(await center("[aria-haspopup=menu]")));
    seen.clicked = await look();
    await page.mouse.click(...(await center("[aria-haspopup=menu]")));
    seen.again = await look();
    await page.mouse.click(...(await center("[aria-haspopup=menu]")));
    await page.mouse.click(...(await center(".caption")));
    seen.away = await look();
    return seen;
  },

  /** Moves by Tab only, and records the names for screen readers. */
  async tab_order() {
    await begin({ id: "a" }, { id: "b" });
    await viewUntil((now) => now.a[0] === "a step_20_0.svg");
    await page.evaluate(() => {
      const before = document.createElement("button");
      document.body.prepend(before);
      before.focus();
    });
    const names = [];
    for (let i = 0; i < 20; i++) {
      await page.keyboard.press("Tab");
      const name = await page.evaluate(() => {
        const { activeElement } = viewer.element.shadowRoot;
        return activeElement && `${activeElement.role ?? activeElement.localName} ${activeElement.ariaLabel ?? ""}`;
      });
      if (!name) break;
      names.push(name);
    }
    return { names };
  },

  async small() {
    const sizes = {};
    await begin({ id: "small", state: "running", steps: 14, items: 4 }, { id: "before" });
    await viewUntil((now) => now.a.length === 4);
    for (const [width, height] of [[280, 280], [280, 400], [1200, 700]]) {
      await page.evaluate(([width, height]) => Object.assign(document.querySelector("#here").style, { width: `${width}px`, height: `${height}px` }), [width, height]);
      await page.waitForTimeout(100);
      await shot(`${width}x${height}`);
      sizes[`${width}x${height}`] = await page.evaluate(() => {
        const root = viewer.element.shadowRoot.querySelector(".viewer");
        const inside = (element) => element.offsetWidth > 0 && element.getBoundingClientRect().right <= root.getBoundingClientRect().right;
        const buttons = [...root.querySelectorAll(".tools button:not([hidden]), .caption > button, .live:not([hidden])")];
        return {
          overflow: root.scrollWidth > root.clientWidth || root.scrollHeight > root.clientHeight,
          height: root.offsetHeight,
          out: buttons.filter((button) => !inside(button)).map(({ ariaLabel }) => ariaLabel),
          rows: new Set([...root.querySelectorAll(".tools, .live:not([hidden])")].map((element) => element.offsetTop)).size,
        };
      });
    }
    return sizes;
  },
};

const results = {};
try {
  await page.goto(url);
  await page.waitForFunction(() => window.ready);
  const selected = process.env.SCENES?.split(" ").filter(Boolean) ?? []; // to run only some of them
  for (const [name, scene] of Object.entries(SCENES)) {
    if (!selected.length || selected.includes(name)) results[name] = await scene().catch((error) => ({ error: String(error.stack) }));
  }
  results.errors = errors.filter(({ from }) => !from.includes("/pictures/lost"));
} finally {
  await browser.close();
  server.close();
}
process.stdout.write(JSON.stringify(results));
