/**
 * A tab of a real browser on a page of ours, which does what it is told and tells what is to be seen.
 *
 * `node tab.mjs CHROMIUM PROFILE`: reads a wish a line as JSON from stdin, `{do: "open", url}` and so on, and answers each
 * with a line `{told}` or `{error}`.
 */

import { createInterface } from "node:readline";

import { openBrowser } from "./page.mjs";

const LIMIT_MS = 20_000;
const [chromium, profile] = process.argv.slice(2);
const browser = await openBrowser(chromium, profile);
let page, requests, troubles;

const WISHES = {
  /** Opens an address in a new tab of a size. */
  async open({ url, width = 1100, height = 900, light = false }) {
    await page?.close();
    page = await browser.newPage();
    [requests, troubles] = [[], []];
    page.on("pageerror", (error) => troubles.push(String(error.stack)));
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && troubles.push(message.text()));
    page.on("dialog", (dialog) => {
      troubles.push(`a dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on("request", (request) => requests.push(request.url()));
    page.on("requestfailed", (request) => troubles.push(`${request.url()}: ${request.failure()?.errorText}`));
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

  /** Presses the mouse on the strip, at a fraction of its width. */
  async scrub({ to }) {
    const { x, y, width, height } = await page.locator(".strip").boundingBox();
    await page.mouse.click(x + 10 + (width - 20) * to, y + height / 2);
  },

  /** What is seen once it is as `want` has it, key by key. */
  async until({ want }) {
    const end = Date.now() + LIMIT_MS;
    for (;;) {
      const seen = await page.evaluate(look);
      if (Object.entries(want).every(([key, value]) => JSON.stringify(seen[key]) === JSON.stringify(value))) return seen;
      if (Date.now() > end) throw new Error(`never as ${JSON.stringify(want)}; last: ${JSON.stringify(seen)}; ${troubles}`);
      await page.waitForTimeout(30);
    }
  },

  async shot({ path }) {
    await page.screenshot({ path });
  },

  async heard() {
    return { requests, troubles, tabs: browser.pages().length };
  },
};

function look() {
  const root = document.querySelector("main > div")?.shadowRoot;
  const text = (selector) => root?.querySelector(selector)?.textContent ?? null;
  const imgs = [...(root?.querySelectorAll(".pane:first-child img") ?? [])];
  return {
    title: document.title,
    heading: document.querySelector("h1")?.textContent ?? null,
    said: document.querySelector("header p")?.textContent ?? null,
    links: [...document.querySelectorAll("nav a")].map((link) => [link.textContent, link.href]),
    notes: [...document.querySelectorAll("footer p")].map((note) => note.textContent),
    elements: [...document.querySelectorAll("*")].map((element) => element.localName).join(" "),
    state: ["running", "finished", "interrupted", "failed"].find((state) => root?.querySelector(`.viewer.${state}`)) ?? null,
    step: text(".parts .step"),
    maker: text(".parts .maker"),
    words: text(".words"),
    note: text(".said"),
    painted: imgs.length > 0 && imgs.every((img) => img.complete && img.naturalWidth > 0),
    picture: imgs[0]?.src ?? null,
    thumbs: [...(root?.querySelectorAll(".thumb") ?? [])].length,
    differences: [...(root?.querySelectorAll(".differences dt") ?? [])].map((name) => name.textContent),
    width: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: wish, ...facts } = JSON.parse(line);
  const told = await WISHES[wish](facts).then(
    (told) => ({ told: told ?? null }),
    (error) => ({ error: String(error.stack) }),
  );
  process.stdout.write(`${JSON.stringify(told)}\n`);
}
await browser.close();
