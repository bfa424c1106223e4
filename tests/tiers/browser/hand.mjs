/**
 * A tab of a real browser on somebody else's page, which does what it is told and tells what is to be seen.
 *
 * `node hand.mjs CHROMIUM PROFILE`: reads a wish a line as JSON from stdin, `{do: "open", url}` and so on, and answers each
 * with a line `{told}` or `{error}`. `at` is a selector of playwright; `within` one of a frame.
 */

import { createInterface } from "node:readline";

import { openBrowser, pageOf } from "./page.mjs";

const LIMIT_MS = 30_000;
const [chromium, profile] = process.argv.slice(2);
const browser = await openBrowser(chromium, profile);
let page, troubles;

const find = ({ at, within }) => (within ? page.frameLocator(within) : page).locator(at).first();

const WISHES = {
  async open({ url, width = 1200, height = 1000 }) {
    await page?.close();
    ({ page, troubles } = await pageOf(browser));
    await page.setViewportSize({ width, height });
    await page.goto(url);
  },

  /** Waits until an element says what `text`, a pattern, is found in. */
  says: async (wish) => {
    const said = (wish.within ? page.frameLocator(wish.within) : page).locator(wish.at).filter({ hasText: new RegExp(wish.text) });
    await said.first().waitFor({ timeout: LIMIT_MS }).catch(async (error) => {
      throw new Error(`it never said ${wish.text}, but ${JSON.stringify(await WISHES.see(wish))}; ${JSON.stringify(troubles)}; ${error}`);
    });
  },

  /** Waits until a picture is painted that has another address than `than`. */
  other: async (wish) => {
    const end = Date.now() + LIMIT_MS;
    for (;;) {
      const seen = await WISHES.see(wish);
      if (seen?.painted && seen.src !== wish.than) return seen;
      if (Date.now() > end) throw new Error(`no other picture came; last: ${JSON.stringify(seen)}; ${JSON.stringify(troubles)}`);
      await page.waitForTimeout(30);
    }
  },

  /** Clicks what gives a file, and puts it at `path`; what it is called. */
  async download(wish) {
    const [coming] = await Promise.all([page.waitForEvent("download", { timeout: LIMIT_MS }), find(wish).click()]);
    await coming.saveAs(wish.path);
    return coming.suggestedFilename();
  },

  click: (wish) => find(wish).click({ timeout: LIMIT_MS }),
  fill: (wish) => find(wish).fill(wish.text),
  focus: (wish) => find(wish).focus(),
  press: async ({ keys }) => {
    for (const key of keys) await page.keyboard.press(key);
  },
  wait: (wish) => find(wish).waitFor({ timeout: LIMIT_MS }),

  /** Text and attributes of an element, and what has become of it if it is a picture; null if there is none. */
  async see(wish) {
    const element = find(wish);
    if (!(await element.count())) return null;
    return element.evaluate((one) => ({
      text: one.textContent,
      value: one.value ?? null,
      src: one.currentSrc ?? one.src ?? null,
      painted: one.complete === true && one.naturalWidth > 0,
      width: one.naturalWidth ?? null,
      disabled: one.disabled ?? null,
      ...Object.fromEntries([...one.attributes].map(({ name, value }) => [`@${name}`, value.slice(0, 200)])),
    }));
  },

  count: ({ at, within }) => (within ? page.frameLocator(within) : page).locator(at).count(),

  shot: ({ path }) => page.screenshot({ path }),
  heard: async () => troubles,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: wish, ...facts } = JSON.parse(line);
  const told = await WISHES[wish](facts).then(
    (told) => ({ told: told ?? null }),
    (error) => ({ error: String(error.stack) }),
  );
  process.stdout.write(`${JSON.stringify(told)}\n`);
}
await browser.close();
