/** The messages over the picture: the last note of a run, and the button for the decoder that it offers. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Messages } from "../../web/messages.mjs";
import { ServerSource } from "../../web/server-source.mjs";

/** As much of a document as messages need. */
const fakeDocument = {
  createElement: (tag) => ({
    tag,
    dataset: {},
    style: {},
    children: [],
    classList: { toggle() {}, add() {}, remove() {} },
    append(...children) {
      this.children.push(...children);
    },
    replaceChildren() {},
    setAttribute() {},
    addEventListener(_, listener) {
      this.click = listener;
    },
  }),
  createElementNS: () => fakeDocument.createElement(),
};

const NOTE = "a better decoder is published";
const run = (more = {}) => ({ id: "a", state: "finished", gone: false, manifest: { notes: [NOTE], offers: { [NOTE]: "taew2_1" }, ...more } });

function shown(get, of = run()) {
  const messages = new Messages(fakeDocument, { get });
  messages.show(of, true);
  const [text, offer, close] = messages.note.children;
  return { messages, text, offer, close };
}

test("a note that offers a decoder has a button for it, if the source can get it", () => {
  const { text, offer } = shown(async () => {});
  assert.deepEqual([text.textContent, offer.hidden, offer.textContent], [NOTE, false, "Get taew2_1"]);
  assert.equal(shown(undefined).offer.hidden, true);
  assert.equal(shown(async () => {}, run({ offers: {} })).offer.hidden, true);
  assert.equal(shown(async () => {}, run({ notes: ["constructor"], offers: {} })).offer.hidden, true);
});

test("the button says what happens, and goes when the decoder is there", async () => {
  const asked = [];
  const { messages, text, offer } = shown(async (...what) => (asked.push(what), { done: true, text: "it is installed" }));
  const done = offer.click();
  assert.deepEqual([text.textContent, offer.hidden], ["taew2_1 is being downloaded …", true]);
  await done;
  assert.deepEqual([asked, text.textContent, offer.hidden], [[["a", "taew2_1"]], "it is installed", true]);
  messages.show(run(), true);
  assert.equal(text.textContent, "it is installed");
});

test("the source of ComfyUI's live page downloads the decoder", async () => {
  const asked = [];
  const reply = { ok: true, json: async () => ({ file: "taew2_1.safetensors" }) };
  const messages = new Messages(fakeDocument, new ServerSource(async (...request) => (asked.push(request), reply), "runs", false));
  messages.show(run(), true);
  const [text, offer] = messages.note.children;
  await offer.click();
  assert.deepEqual(asked, [["runs/a/decoders/taew2_1", "POST"]]);
  assert.equal(text.textContent, "taew2_1.safetensors is installed. The next run can use it.");
});

test("after an error the button stays", async () => {
  const { text, offer } = shown(async () => ({ done: false, text: "no network" }));
  await offer.click();
  assert.deepEqual([text.textContent, offer.hidden], ["no network", false]);
});

test("an answer for another note than the last one is not shown", async () => {
  let answer;
  const { messages, text, offer } = shown(() => new Promise((resolve) => (answer = resolve)));
  const done = offer.click();
  messages.show(run({ notes: ["another"] }), true);
  answer({ done: true, text: "it is installed" });
  await done;
  assert.deepEqual([text.textContent, offer.hidden], ["another", true]);
});

test("a dismissed note stays away, and its button too", () => {
  const { messages, text, offer, close } = shown(async () => {});
  close.click();
  messages.show(run(), true);
  assert.deepEqual([text.textContent, offer.hidden], ["", true]);
});

test("a result in many words stays longer than one in a few", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { messages } = shown(async () => {});
  const classes = new Set();
  messages.toast.classList = { add: (name) => classes.add(name), remove: (name) => classes.delete(name) };
  const isShownAfter = (text, ms) => (messages.showToast(text), t.mock.timers.tick(ms), classes.has("shown"));
  assert.deepEqual([isShownAfter("Copied", 1599), isShownAfter("Copied", 1600)], [true, false]);
  assert.deepEqual([isShownAfter("a".repeat(60), 1600), isShownAfter("a".repeat(60), 3300)], [true, false]);
});
