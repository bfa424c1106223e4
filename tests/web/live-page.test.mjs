/** The live page: where its key comes from; the actions that lead to it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { liveActions } from "../../web/live-actions.mjs";
import { readAddress } from "../../web/live-page.mjs";

const storage = (values = {}) => ({ getItem: (name) => values[name] ?? null, setItem: (name, value) => (values[name] = value) });

function windowAt(hash, { local = {}, session = {} } = {}) {
  const location = { hash, pathname: "/safelight/live", search: "" };
  return { location, history: { replaceState: (_, __, path) => (location.shown = path) }, localStorage: storage(local), sessionStorage: storage(session) };
}

test("the key of the address is stored for the tab and removed from the address", () => {
  const session = {};
  const window = windowAt("#key=a%20key&run=7", { session });
  assert.deepEqual(readAddress(window), { key: "a key", run: "7" });
  assert.equal(window.location.shown, "/safelight/live#run=7");
  assert.deepEqual(readAddress(windowAt("", { session })), { key: "a key", run: null });
});

test("without one, the key is that of ComfyUI's page in this browser", () => {
  assert.deepEqual(readAddress(windowAt("", { local: { "Safelight.Key": "mine" } })), { key: "mine", run: null });
  assert.deepEqual(readAddress(windowAt("", { local: { "Safelight.Key": "mine", "Safelight.Key.ann": "ann's", "Comfy.userId": "ann" } })).key, "ann's");
  assert.equal(readAddress(windowAt("")).key, null);
});

test("a browser that stores nothing has no key", () => {
  const window = { ...windowAt(""), get localStorage() { throw new Error("forbidden"); } };
  assert.equal(readAddress(window).key, null);
});

test("the actions open a window with the run, and copy an address with the key behind #", async () => {
  const opened = [];
  const copied = [];
  const window = { location: { href: "http://host:8188/" }, open: (url) => opened.push(url.href), navigator: { clipboard: { writeText: async (text) => copied.push(text) } } };
  const [open, , copy] = liveActions(window, (path) => path, () => "a key")({ run: { id: "r 1" } });
  open.run();
  assert.match(await copy.run(), /can stop them$/);
  assert.deepEqual(opened, ["http://host:8188/safelight/live#run=r%201"]);
  assert.deepEqual(copied, ["http://host:8188/safelight/live#key=a%20key"]);
  assert.throws(() => liveActions({ ...window, open: () => null }, (path) => path, () => "k")({ run: { id: "r" } })[0].run(), /blocked the window/);
});

test("on top of other windows, the page is in a frame of a window that the browser keeps there", async () => {
  const body = { style: {}, children: [], append: (child) => body.children.push(child) };
  const element = (tag) => ({ tag, style: {}, dataset: {}, append() {} });
  const document = { body, documentElement: {}, createElement: element };
  const asked = [];
  const documentPictureInPicture = { requestWindow: async (size) => (asked.push(size), { document }) };
  const window = { location: { href: "http://localhost:8188/" }, documentPictureInPicture, open: () => assert.fail("a second window") };
  const [, onTop] = liveActions(window, (path) => path, () => "a key")({ run: { id: "r 1" } });
  assert.equal(await onTop.run(), undefined);
  assert.equal(asked.length, 1);
  const [frame] = body.children;
  assert.deepEqual([frame.tag, frame.src, frame.title, document.title], ["iframe", "http://localhost:8188/safelight/live#run=r%201", "Safelight", "Safelight"]);
});

test("where the browser cannot keep a window on top, an ordinary one opens and the menu says so", async () => {
  const refusing = { requestWindow: () => Promise.reject(new Error("NotAllowedError")) };
  for (const documentPictureInPicture of [undefined, refusing]) {
    const opened = [];
    const window = { location: { href: "http://host:8188/" }, documentPictureInPicture, open: (url) => opened.push(url.href) };
    const [, onTop] = liveActions(window, (path) => path, () => "a key")({ run: { id: "r" } });
    assert.match(await onTop.run(), /ordinary one$/);
    assert.deepEqual(opened, ["http://host:8188/safelight/live#run=r"]);
  }
});
