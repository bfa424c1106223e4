/**
 * Uses the library in ComfyUI's sidebar by keyboard, and reports what it shows.
 *
 * Reads `{url, chromium, profiles, shots, latent_format}` as JSON from stdin, writes JSON to stdout.
 */

import { mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { FIND_NODE, openBrowser, openTab, openWorkflow, queue, saveSettings, viewUntil } from "./page.mjs";

const LIMIT_MS = 60_000;
const input = JSON.parse(readFileSync(0, "utf8"));
const FIND = `(() => {
  const search = (root) => [...root.querySelectorAll("*")].map((element) => element.shadowRoot).find((shadow) => shadow?.querySelector(".library"));
  return search(document);
})()`;

/** What the library shows, and the graph beside it. */
function view(page) {
  return page.evaluate((find) => {
    const root = eval(find);
    if (!root) return null;
    const shown = (selector) => [...root.querySelectorAll(selector)].filter((element) => element.offsetWidth > 0);
    const tiles = shown(".tile");
    const pictures = [...(root.querySelector(".viewing > div")?.shadowRoot.querySelectorAll(".pane img") ?? [])];
    const grid = root.querySelector(".grid");
    return {
      status: shown(".status")[0]?.textContent ?? null,
      badges: tiles.map((tile) => tile.querySelector(".badge").textContent),
      painted: tiles.length > 0 && tiles.every((tile) => tile.querySelector("img").naturalWidth > 0),
      stars: tiles.filter((tile) => tile.querySelector(".mark").ariaPressed === "true").length,
      spoken: root.getElementById(grid.getAttribute("aria-activedescendant"))?.ariaLabel ?? null,
      columns: Number(grid.getAttribute("aria-colcount")),
      folder: shown(".facts dt").find((name) => name.textContent === "Folder")?.nextElementSibling.textContent ?? null,
      actions: shown(".actions button").map((button) => button.ariaLabel),
      said: shown(".said .words")[0]?.textContent ?? "",
      search: root.querySelector(".search").value,
      opened: pictures.length > 0 && pictures.every((img) => img.naturalWidth > 0),
      wide: [...root.querySelectorAll("*")].filter((part) => part.offsetWidth && part.getBoundingClientRect().right > grid.getRootNode().host.getBoundingClientRect().right + 1).length,
      nodes: window.app.graph.nodes.length,
      tab: window.app.extensionManager.workflow?.activeWorkflow?.filename ?? null,
    };
  }, FIND);
}

async function until(page, test) {
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    const seen = await view(page);
    if (seen && test(seen)) return seen;
    if (Date.now() > end) throw new Error(`timed out waiting for ${test}; last: ${JSON.stringify(seen)}`);
    await page.waitForTimeout(50);
  }
}

const press = async (page, ...keys) => {
  for (const key of keys) await page.keyboard.press(key);
};

/** Drags the edge of the sidebar until the library is about so wide. */
async function resize(page, width) {
  const { left, right, top } = await page.evaluate((find) => {
    const box = eval(find).host.getBoundingClientRect();
    return { left: box.left, right: box.right, top: box.top + box.height / 2 };
  }, FIND);
  const edge = await page.locator(".p-splitter-gutter").first().boundingBox();
  await page.mouse.move(edge ? edge.x + edge.width / 2 : right + 2, top);
  await page.mouse.down();
  await page.mouse.move(left + width, top, { steps: 8 });
  await page.mouse.up();
  await page.waitForTimeout(300);
}

/** The entries of the menu on the picture of the node. */
const menu = (page) =>
  page.evaluate((find) => [...eval(find).widgets.at(-1).element.shadowRoot.querySelectorAll("[role=menuitem]")].map(({ textContent }) => textContent), FIND_NODE);

const choose = (page, label) =>
  page.evaluate(
    ({ find, label }) => [...eval(find).widgets.at(-1).element.shadowRoot.querySelectorAll("[role=menuitem]")].find(({ textContent }) => textContent === label).click(),
    { find: FIND_NODE, label },
  );

const shot = (page, name) => page.screenshot({ path: join(input.shots, `${name}.png`) });
await saveSettings(input.url);
const browser = await openBrowser(input.chromium, mkdtempSync(join(input.profiles, "profile-")));
const { page, errors } = await openTab(browser, input.url);
const model = { latent_format: input.latent_format, flow: true, height: 24, width: 36, step_ms: 60 };
const finished = (seen) => seen.state.includes("finished") && /^step (\d+) \/ \1$/.test(seen.step);
const results = {};

await openWorkflow(page, { name: "sidebar", model, sampler: { steps: 4, cfg: 1 } });
await viewUntil(page, (seen) => seen.onScreen);
await queue(page, 11, 4);
await viewUntil(page, finished);
await openWorkflow(page, { name: "sidebar saved", model, sampler: { steps: 4, cfg: 1 }, preview: { write_intermediates: true } });
await viewUntil(page, (seen) => seen.onScreen);
await queue(page, 12, 4);
await viewUntil(page, finished);

await page.locator("[aria-label^='Safelight']").first().click();
results.listed = await until(page, (seen) => seen.status === "2 runs" && seen.painted && !seen.badges.includes("running"));
await page.evaluate((find) => eval(find).querySelector(".grid").focus(), FIND);
await press(page, "ArrowRight");
results.saved = await until(page, (seen) => seen.spoken !== null);
await press(page, "ArrowRight", "s");
results.starred = await until(page, (seen) => seen.stars === 1 && seen.said !== "");
await shot(page, "sidebar");
await press(page, "Enter");
results.opened = await until(page, (seen) => seen.opened);
await shot(page, "sidebar-open");
await press(page, "Escape");
await until(page, (seen) => !seen.opened);
await press(page, "Delete");
results.deleted = await until(page, (seen) => seen.status === "1 run" && /deleted/.test(seen.said));
await press(page, "Control+z");
results.undone = await until(page, (seen) => seen.status === "2 runs" && seen.stars === 1);
await press(page, "/");
await page.keyboard.type("seed:12 w");
results.searched = await until(page, (seen) => seen.search === "seed:12 w" && seen.status === "0 of 2 runs");
await press(page, "Escape");
await page.evaluate((find) => eval(find).querySelector(".grid").focus(), FIND);
await until(page, (seen) => seen.status === "2 runs");
await press(page, "Home", "w");
results.workflow = await until(page, (seen) => /steps_\d+/.test(seen.tab ?? ""));
await page.evaluate((find) => eval(find).widgets.at(-1).element.shadowRoot.querySelector("[data-face=more]").click(), FIND_NODE);
results.menu = await menu(page);
await choose(page, "Give this run a star");
await until(page, (seen) => seen.stars === 2);
await page.evaluate((find) => eval(find).widgets.at(-1).element.shadowRoot.querySelector("[data-face=more]").click(), FIND_NODE);
await choose(page, "Delete this run");
results.deletedInMenu = await until(page, (seen) => seen.status === "1 run");
await page.evaluate((find) => eval(find).querySelector(".grid").focus(), FIND);
await press(page, "Control+z");
results.undoneInTab = await until(page, (seen) => seen.status === "2 runs");
await viewUntil(page, finished);
await resize(page, 800);
results.wide = await view(page);
await shot(page, "sidebar-800");
await resize(page, 280);
results.narrow = await view(page);
await page.evaluate(() => window.app.extensionManager.setting.set("Comfy.ColorPalette", "light"));
await page.waitForTimeout(800);
await shot(page, "sidebar-light");
results.errors = errors.filter(({ from }) => /safelight/i.test(from));
await browser.close();
process.stdout.write(JSON.stringify(results));
