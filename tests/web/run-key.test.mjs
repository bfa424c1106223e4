/** The key of a browser: created once, sent with every prompt, and with nothing else. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { KEY_FIELD, RunKey, sendKey } from "../../web/run-key.mjs";

/** A browser's storage. */
function storage(values = new Map()) {
  return { getItem: (name) => values.get(name) ?? null, setItem: (name, value) => values.set(name, value) };
}

/** ComfyUI's `api`, which records the requests. */
function host() {
  const requests = [];
  return { requests, fetchApi: async (route, options) => requests.push([route, options]) };
}

const nobody = () => undefined;
const refused = () => {
  throw new DOMException("the browser stores nothing", "SecurityError");
};

test("the key is unguessable, and stays the same in every tab and after a reload", () => {
  const stored = storage();
  const key = new RunKey(() => stored, nobody).get();
  assert.match(key, /^[0-9a-f]{64}$/);
  assert.equal(new RunKey(() => stored, nobody).get(), key);
  assert.notEqual(new RunKey(() => storage(), nobody).get(), key);
});

test("each user of the server has another key in the same browser", () => {
  const stored = storage();
  let user = "ann";
  const key = new RunKey(() => stored, () => user);
  const first = key.get();
  user = "ben";
  assert.notEqual(key.get(), first);
  user = "ann";
  assert.equal(key.get(), first);
});

test("the key of another browser replaces that of the current user", () => {
  const stored = storage();
  let user = "ann";
  const key = new RunKey(() => stored, () => user);
  const hers = key.get();
  user = "ben";
  key.get();
  key.set("that of his other browser");
  assert.equal(key.get(), "that of his other browser");
  user = "ann";
  assert.equal(key.get(), hers);
});

test("two tabs that create the key in the same moment use the one that is stored last", () => {
  const stored = storage();
  const [one, other] = [new RunKey(() => stored, nobody), new RunKey(() => stored, nobody)];
  one.get();
  stored.setItem("Safelight.Key", "created by the other tab");
  assert.deepEqual([one.get(), other.get()], ["created by the other tab", "created by the other tab"]);
});

test("in a browser that stores nothing, the key lasts as long as the page", () => {
  const full = { getItem: () => null, setItem: refused };
  for (const nothing of [refused, () => full]) {
    const key = new RunKey(nothing, nobody);
    assert.match(key.get(), /^[0-9a-f]{64}$/);
    assert.equal(key.get(), key.get());
    key.set("of another browser");
    assert.equal(key.get(), "of another browser");
  }
});

test("a prompt that is queued has the key in its extra data, and keeps everything else", async () => {
  const api = host();
  sendKey(api, { get: () => "secret" });
  const prompt = { prompt: { 1: {} }, client_id: "c", extra_data: { extra_pnginfo: { workflow: { id: "w" } } } };
  await api.fetchApi("/prompt", { method: "POST", headers: { a: "b" }, body: JSON.stringify(prompt) });
  await api.fetchApi("/prompt", { method: "POST", body: JSON.stringify({ prompt: {} }) });
  const [[, first], [, second]] = api.requests;
  assert.deepEqual(first.headers, { a: "b" });
  assert.deepEqual(JSON.parse(first.body), { ...prompt, extra_data: { ...prompt.extra_data, [KEY_FIELD]: "secret" } });
  assert.deepEqual(JSON.parse(second.body), { prompt: {}, extra_data: { [KEY_FIELD]: "secret" } });
});

test("no other request has the key", async () => {
  const api = host();
  sendKey(api, { get: () => "secret" });
  const requests = [["/prompt", undefined], ["/prompt", { method: "GET" }], ["/queue", { method: "POST", body: "{}" }], ["/prompt", { method: "POST", body: "no JSON" }]];
  for (const [route, options] of requests) await api.fetchApi(route, options);
  assert.deepEqual(api.requests, requests);
});

test("the host's function is called as a method, and its answer is returned", async () => {
  const api = {
    answer: 7,
    fetchApi() {
      return this.answer;
    },
  };
  sendKey(api, { get: () => "secret" });
  assert.equal(await api.fetchApi("/queue"), 7);
});
