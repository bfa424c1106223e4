/** What the browser remembers of models. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { KnownModels, modelKey } from "../../web/known-models.mjs";

function storage(text = null) {
  return { text, getItem() { return this.text; }, setItem(_, text) { this.text = text; } };
}

test("a model is named by the files on its line", () => {
  assert.equal(modelKey(["sd_xl.safetensors", 3, true, "euler", "lcm.ckpt"]), "sd_xl.safetensors + lcm.ckpt");
  assert.equal(modelKey(["Flux", 24]), "");
});

test("what a run has shown is known after a reload", () => {
  const stored = storage();
  new KnownModels(() => stored).set("a.safetensors", { space: "sdxl", frames: 1 });
  assert.deepEqual(new KnownModels(() => stored).get("a.safetensors"), { space: "sdxl", frames: 1 });
  assert.equal(new KnownModels(() => stored).get("b.safetensors"), null);
});

test("a model without a name or a space is not stored", () => {
  const stored = storage();
  const models = new KnownModels(() => stored);
  models.set("", { space: "sdxl", frames: 1 });
  models.set("a.safetensors", { space: null, frames: 1 });
  assert.equal(stored.text, null);
  assert.equal(models.get(""), null);
});

test("only the newest models are stored", () => {
  const stored = storage();
  const models = new KnownModels(() => stored);
  for (let i = 0; i < 130; i++) models.set(`${i}.safetensors`, { space: "sd1", frames: 1 });
  assert.equal(Object.keys(JSON.parse(stored.text)).length, 100);
  assert.equal(models.get("0.safetensors"), null);
  assert.ok(models.get("129.safetensors"));
});

test("a storage that is damaged or forbidden knows nothing", () => {
  for (const text of ["", "{", "[]", "3", '{"a.safetensors": 3}', '{"a.safetensors": {"space": 3}}']) {
    assert.equal(new KnownModels(() => storage(text)).get("a.safetensors"), null, text);
  }
  const forbidden = new KnownModels(() => { throw new Error("forbidden"); });
  forbidden.set("a.safetensors", { space: "sd1", frames: 1 });
  assert.equal(forbidden.get("a.safetensors"), null);
});
