/** The modules as files: their list in `comfy.js`, and the form of their imports. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const WEB = new URL("../../web/", import.meta.url);
const read = (name) => readFileSync(new URL(name, WEB), "utf8");
const modules = readdirSync(WEB).filter((name) => name.endsWith(".mjs"));
const importsOf = (name) => [...read(name).matchAll(/^import .* from "\.\/([\w-]+\.mjs)";$/gm)].map(([, from]) => from);

function modulesOf(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  importsOf(name).forEach((from) => modulesOf(from, found));
  return found;
}

test("comfy.js lists every module that it uses", () => {
  const listed = [...read("comfy.js").match(/const MODULES = \[[^;]*;/s)[0].matchAll(/"([\w-]+)"/g)].map(([, name]) => `${name}.mjs`);
  const used = new Set(["run-store", "node-place", "viewer", "run-key", "node-settings", "settings-bar", "decoder-list", "workflow-actions", "everywhere", "welcome", "sampler-previews", "far-view", "choice-nodes", "library-actions", "live-actions", "search-rank", "moving-canvas", "comfy-language", "drop-on-node", "other-browser"].flatMap((name) => [...modulesOf(`${name}.mjs`)]));
  assert.deepEqual(new Set(listed), used);
  const imported = ["run-store", "viewer", "node-place", "style", "run-key", "node-settings", "settings-bar", "decoder-list", "known-models", "picture-first", "everywhere", "welcome", "sampler-previews", "far-view", "workflow-actions", "choice-nodes", "live-actions", "search-rank", "moving-canvas"];
  assert.deepEqual(listed.slice(0, imported.length), imported.map((name) => `${name}.mjs`));
});

test("comfy.js lists every module of the library", () => {
  const listOf = (name) => [...read("comfy.js").match(new RegExp(`const ${name} = \\[[^;]*;`, "s"))[0].matchAll(/"([\w-]+)"/g)].map(([, name]) => `${name}.mjs`);
  const used = [...modulesOf("library-comfy.mjs")].filter((name) => !listOf("MODULES").includes(name));
  assert.deepEqual(listOf("LIBRARY_MODULES").sort(), used.sort());
});

test("every import is static, named and of a file in the same folder", () => {
  for (const name of modules) {
    const statements = read(name).match(/^import\b.*$|(?:await|=|return) import\(|^export \* |^export default/gm) ?? [];
    for (const statement of statements) assert.match(statement, /^import \{( \w+,?)+ \} from "\.\/[\w-]+\.mjs";$/, `${name}: ${statement}`);
  }
});

test("no module uses ComfyUI", () => {
  for (const name of modules) assert.doesNotMatch(read(name), /scripts\/(app|api)\.js|window\.app|LiteGraph\./, name);
});
