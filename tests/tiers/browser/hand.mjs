/**
 * Drives a tab of a real browser on the page of a host.
 *
 * `node hand.mjs CHROMIUM PROFILE` reads commands from stdin, one JSON object per line, such as `{do: "open", url}`. It
 * answers each with a line `{result}` or `{error}`. `at` is a selector of playwright; `within` selects a frame.
 */

import { createInterface } from "node:readline";

import { openBrowser, openPage } from "./page.mjs";

const LIMIT_MS = 30_000;
const [chromium, profile] = process.argv.slice(2);
const browser = await openBrowser(chromium, profile);
let page, errors;

const find = ({ at, within }) => (within ? page.frameLocator(within) : page).locator(at).first();

const COMMANDS = {
  async open({ url, width = 1200, height = 1000 }) {
    await page?.close();
    ({ page, errors } = await openPage(browser));
    await page.setViewportSize({ width, height });
    await page.goto(url);
  },

  /** Waits until an element contains the pattern `text`. */
  says: async (command) => {
    const found = (command.within ? page.frameLocator(command.within) : page).locator(command.at).filter({ hasText: new RegExp(command.text) });
    await found.first().waitFor({ timeout: LIMIT_MS }).catch(async (error) => {
      throw new Error(`timed out waiting for ${command.text}; last: ${JSON.stringify(await COMMANDS.see(command))}; ${JSON.stringify(errors)}; ${error}`);
    });
  },

  /** Waits until a picture with another address than `than` is on the screen. */
  other: async (command) => {
    const end = Date.now() + LIMIT_MS;
    for (;;) {
      const seen = await COMMANDS.see(command);
      if (seen?.painted && seen.src !== command.than) return seen;
      if (Date.now() > end) throw new Error(`timed out waiting for another picture; last: ${JSON.stringify(seen)}; ${JSON.stringify(errors)}`);
      await page.waitForTimeout(30);
    }
  },

  /** Clicks, saves the downloaded file at `path`, and gives its suggested name. */
  async download(command) {
    const [download] = await Promise.all([page.waitForEvent("download", { timeout: LIMIT_MS }), find(command).click()]);
    await download.saveAs(command.path);
    return download.suggestedFilename();
  },

  click: (command) => find(command).click({ timeout: LIMIT_MS }),
  fill: (command) => find(command).fill(command.text),
  focus: (command) => find(command).focus(),
  press: async ({ keys }) => {
    for (const key of keys) await page.keyboard.press(key);
  },
  wait: (command) => find(command).waitFor({ timeout: LIMIT_MS }),

  /** The text and the attributes of an element, and whether it is a loaded picture; null if there is nfound. */
  async see(command) {
    const element = find(command);
    if (!(await element.count())) return null;
    return element.evaluate((found) => ({
      text: found.textContent,
      value: found.value ?? null,
      src: found.currentSrc ?? found.src ?? null,
      painted: found.complete === true && found.naturalWidth > 0,
      width: found.naturalWidth ?? null,
      disabled: found.disabled ?? null,
      ...Object.fromEntries([...found.attributes].map(({ name, value }) => [`@${name}`, value.slice(0, 200)])),
    }));
  },

  count: ({ at, within }) => (within ? page.frameLocator(within) : page).locator(at).count(),

  shot: ({ path }) => page.screenshot({ path }),
  heard: async () => errors,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...facts } = JSON.parse(line);
  const answer = await COMMANDS[name](facts).then(
    (result) => ({ result: result ?? null }),
    (error) => ({ error: String(error.stack) }),
  );
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
