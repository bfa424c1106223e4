/**
 * Drives a tab of a real browser on a page of this package.
 *
 * `node tab.mjs CHROMIUM PROFILE` reads commands from stdin, one JSON object per line, such as `{do: "open", url}`. It
 * answers each with a line `{result}` or `{error}`.
 */

import { createInterface } from "node:readline";

import { readFileSync } from "node:fs";

import { FIRST, openBrowser, paint } from "./page.mjs";

const LIMIT_MS = 20_000;
const ROOT = `document.querySelector("main > div")?.shadowRoot`;
const [chromium, profile] = process.argv.slice(2);
const browser = await openBrowser(chromium, profile);
let page, requests, errors;

const COMMANDS = {
  /** Opens an address in a new tab. */
  async open({ url, width = 1100, height = 900, light = false }) {
    await page?.close();
    page = await browser.newPage();
    [requests, errors] = [[], []];
    page.on("pageerror", (error) => errors.push(String(error.stack)));
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && errors.push(message.text()));
    page.on("dialog", (dialog) => {
      errors.push(`a dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on("request", (request) => requests.push(request.url()));
    page.on("requestfailed", (request) => errors.push(`${request.url()}: ${request.failure()?.errorText}`));
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: light ? "light" : "dark" });
    await page.goto(url);
  },

  async press({ keys }) {
    for (const key of keys) await page.keyboard.press(key);
  },

  async click({ selector }) {
    await page.locator(selector).first().click();
  },

  /** Turns the wheel over an element. */
  async wheel({ selector, by }) {
    const { x, y, width, height } = await page.locator(selector).first().boundingBox();
    await page.mouse.move(x + width / 2, y + height / 2);
    await page.mouse.wheel(0, by);
  },

  /** Clicks on the strip at a fraction of its width. */
  async scrub({ to }) {
    const { x, y, width, height } = await page.locator(".strip").boundingBox();
    await page.mouse.click(x + 10 + (width - 20) * to, y + height / 2);
  },

  /** Types a text with the keyboard. */
  async type({ text }) {
    await page.keyboard.type(text);
  },

  /** Waits until the page shows the values of `want`, and gives all that it shows; `of` the viewer, or of the library. */
  async until({ want, of = "viewer" }) {
    const end = Date.now() + LIMIT_MS;
    for (;;) {
      const seen = await page.evaluate(of === "library" ? libraryView : view);
      if (Object.entries(want).every(([key, value]) => JSON.stringify(seen[key]) === JSON.stringify(value))) return seen;
      if (Date.now() > end) throw new Error(`timed out waiting for ${JSON.stringify(want)}; last: ${JSON.stringify(seen)}; ${errors}`);
      await page.waitForTimeout(30);
    }
  },

  async shot({ path }) {
    await page.screenshot({ path });
  },

  /** The pixels on the screen in the place of a picture, several times if `count` says so. */
  async paint({ selector = FIRST, count = 1, pause_ms = 0 }) {
    await page.mouse.move(2, 2); // away from buttons that appear under it
    const shots = [];
    for (let i = 0; i < count; i++) {
      shots.push(await paint(page, ROOT, selector));
      if (pause_ms) await page.waitForTimeout(pause_ms);
    }
    return shots;
  },

  /** Saves the picture by a key; gives the name and the content of the file that the browser writes. */
  async saved({ key }) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press(key)]);
    return { name: download.suggestedFilename(), content: readFileSync(await download.path()).toString("base64") };
  },

  /** The address of the tab that a key opens. */
  async opened({ key }) {
    const [tab] = await Promise.all([browser.waitForEvent("page"), page.keyboard.press(key)]);
    await tab.waitForLoadState();
    const url = tab.url();
    await tab.close();
    return url;
  },

  /** Copies the picture by its button; gives what is in the clipboard then, and what the viewer says. */
  async copied() {
    await browser.grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.locator(".tools [aria-label^='Copy']").click();
    // Not `waitForFunction`: the page's policy forbids `eval` after the first try.
    const toast = () => page.evaluate((root) => eval(root).querySelector(".toast").textContent, ROOT);
    for (let tries = 0; !/copied/i.test(await toast()) && tries < 300; tries++) await page.waitForTimeout(50);
    const said = await toast();
    if (said !== "Copied") return { said, content: null };
    const content = await page.evaluate(async () => {
      const [item] = await navigator.clipboard.read();
      const bytes = new Uint8Array(await (await item.getType("image/png")).arrayBuffer());
      return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
    });
    return { said, content };
  },

  async log() {
    return { requests, errors, tabs: browser.pages().length };
  },
};

/** What the library shows, and the parts of it that a screen reader knows. */
function libraryView() {
  const root = document.querySelector("main > div")?.shadowRoot;
  if (!root?.querySelector(".library")) return {};
  const shown = (selector) => [...root.querySelectorAll(selector)].filter((element) => element.offsetWidth > 0);
  const text = (selector) => shown(selector)[0]?.textContent ?? null;
  const tiles = shown(".tile");
  const grid = root.querySelector(".grid");
  const viewer = root.querySelector(".viewing > div")?.shadowRoot;
  const pictures = [...(viewer?.querySelectorAll(".pane img") ?? [])];
  return {
    status: text(".status"),
    tiles: tiles.length,
    painted: tiles.length > 0 && tiles.every((tile) => tile.querySelector("img").naturalWidth > 0),
    words: tiles.map((tile) => tile.querySelector(".words").textContent),
    spoken: root.getElementById(grid.getAttribute("aria-activedescendant"))?.ariaLabel ?? null,
    stars: tiles.filter((tile) => tile.querySelector(".mark")?.ariaPressed === "true").length,
    rows: Number(grid.getAttribute("aria-rowcount")),
    columns: Number(grid.getAttribute("aria-colcount")),
    focus: root.activeElement?.className || root.activeElement?.localName || null,
    prompt: text(".inspector .prompt"),
    facts: Object.fromEntries(shown(".facts dt").map((name) => [name.textContent, name.nextElementSibling.textContent])),
    actions: shown(".actions button").map((button) => button.ariaLabel),
    note: shown("textarea")[0]?.value ?? null,
    said: text(".said .words"),
    canUndo: shown(".said button").length > 0,
    empty: text(".empty"),
    opened: pictures.length > 0 && pictures.every((img) => img.naturalWidth > 0),
    compared: [...(viewer?.querySelectorAll(".differences dt") ?? [])].filter((name) => name.offsetWidth > 0).map((name) => name.textContent),
    trash: shown(".trash li").map((row) => row.firstChild.textContent.split(",")[0]),
    nameless: [...root.querySelectorAll("button, input, select, textarea, [tabindex='0']")].filter((part) => part.offsetWidth > 0 && !part.ariaLabel && !part.textContent.trim() && !part.closest("label")).map((part) => part.outerHTML.slice(0, 100)),
    wide: [...root.querySelectorAll("*")].filter((part) => part.offsetWidth && part.getBoundingClientRect().right > innerWidth + 1).map((part) => part.className).slice(0, 5),
  };
}

function view() {
  const root = document.querySelector("main > div")?.shadowRoot;
  const text = (selector) => root?.querySelector(selector)?.textContent ?? null;
  const imgs = [...(root?.querySelectorAll(".pane:first-child img") ?? [])];
  return {
    title: document.title,
    heading: document.querySelector("h1")?.textContent ?? null,
    summary: document.querySelector("header p")?.textContent ?? null,
    links: [...document.querySelectorAll("nav a")].map((link) => [link.textContent, link.href]),
    notes: [...document.querySelectorAll("footer p")].map((note) => note.textContent),
    elements: [...document.querySelectorAll("*")].map((element) => element.localName).join(" "),
    state: ["running", "finished", "interrupted", "failed"].find((state) => root?.querySelector(`.viewer.${state}`)) ?? null,
    step: text(".parts .step"),
    decoder: text(".parts .decoder"),
    placeholder: text(".placeholder"),
    note: text(".note-text"),
    toast: text(".toast"),
    painted: imgs.length > 0 && imgs.every((img) => img.complete && img.naturalWidth > 0),
    picture: imgs[0]?.src ?? null,
    cells: root?.querySelectorAll(".pane:first-child .cell").length ?? 0,
    thumbs: [...(root?.querySelectorAll(".thumb") ?? [])].length,
    differences: [...(root?.querySelectorAll(".differences dt") ?? [])].map((name) => name.textContent),
    width: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...facts } = JSON.parse(line);
  const answer = await COMMANDS[name](facts).then(
    (result) => ({ result: result ?? null }),
    (error) => ({ error: String(error.stack) }),
  );
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
