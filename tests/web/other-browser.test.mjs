/** A browser takes over the key of another one, which the user carries. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { keyIn, listOtherBrowser } from "../../web/other-browser.mjs";

const KEY = "0123456789abcdef".repeat(4);
const ADDRESS = `http://host:8188/safelight/live#key=${KEY}`;

/** What the page did after the user gave an answer. */
async function answered(answer) {
  const [kept, said] = [[], []];
  await listOtherBrowser({ ask: async () => answer, keep: (key) => kept.push(key), notify: (text) => said.push(text) });
  return { kept, said };
}

test("the key is that of the address which the other browser copies", () => {
  assert.equal(keyIn(ADDRESS), KEY);
  assert.equal(keyIn(` ${ADDRESS}\n`), KEY);
  assert.equal(keyIn(`http://host/safelight/live#run=a&key=${KEY}&more`), KEY);
  for (const address of ["", KEY, `http://host/?key=${KEY}`, ADDRESS.slice(0, -1), `${ADDRESS}0`, "http://host/safelight/live#run=a"]) assert.equal(keyIn(address), null, address);
});

test("only that address changes the key, and the user reads what came of it", async () => {
  const done = await answered(ADDRESS);
  assert.deepEqual([done.kept, done.said.length], [[KEY], 1]);
  const wrong = await answered("http://host:8188/");
  assert.deepEqual([wrong.kept, wrong.said.length], [[], 1]);
  assert.deepEqual(await answered(null), { kept: [], said: [] });
});
