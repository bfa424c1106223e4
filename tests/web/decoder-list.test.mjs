/** The decoders in the node's list. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { DecoderList } from "../../web/decoder-list.mjs";

const WORDS = ["auto", "fast", "fine", "full"];
const FLUX2 = [{ name: "flux2-conv-small", words: "conv small · net · fast" }];

function served(answer) {
  const seen = { asked: [], changes: 0 };
  const request = async (path) => (seen.asked.push(path), answer(path));
  seen.list = new DecoderList(request, () => seen.changes++);
  return seen;
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("without a known model the list has four words and the selected name", () => {
  const { list, asked } = served();
  assert.deepEqual(list.values(null, "auto"), WORDS);
  assert.deepEqual(list.values(null, "tiny"), [...WORDS, "tiny"]);
  assert.deepEqual(asked, []);
  assert.deepEqual(WORDS.map((word) => list.label(null, word)), ["auto", "fast", "fine", "full VAE"]);
});

test("the decoders of a latent space follow when the server has sent them", async () => {
  const seen = served(() => ({ ok: true, json: async () => FLUX2 }));
  assert.deepEqual(seen.list.values("flux2", "auto"), WORDS);
  seen.list.values("flux2", "auto");
  await settled();
  assert.deepEqual(seen.asked, ["/safelight/decoders?space=flux2"]);
  assert.equal(seen.changes, 1);
  assert.deepEqual(seen.list.values("flux2", "sd1-cubic"), [...WORDS, "flux2-conv-small", "sd1-cubic"], "a saved name of another model stays");
  assert.equal(seen.list.label("flux2", "flux2-conv-small"), "conv small · net · fast");
  assert.equal(seen.list.shortLabel("flux2", "flux2-conv-small"), "conv small");
  assert.equal(seen.list.label("flux2", "sd1-cubic"), "sd1-cubic");
  seen.list.reset();
  seen.list.values("flux2", "auto");
  assert.equal(seen.asked.length, 2, "the user may have added files");
});

test("a server that fails leaves the words, and is not asked again and again", async () => {
  for (const answer of [() => ({ ok: false }), () => Promise.reject(new Error("offline"))]) {
    const seen = served(answer);
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(seen.list.values("flux2", "auto"), WORDS);
      await settled();
    }
    assert.equal(seen.asked.length, 1);
  }
});
