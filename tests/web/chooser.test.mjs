/** Requests for choices: the place, the answer, and errors in words. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ChoiceSource } from "../../web/chooser.mjs";

const reply = (body, ok = true) => ({ ok, json: async () => body });

test("a node asks for its own choice", async () => {
  const paths = [];
  const source = new ChoiceSource(async (path) => (paths.push(path), reply([{ choice: "c", count: 2, remaining_s: 3 }])));
  assert.deepEqual(await source.at({ workflow: "w 1", node: "5:2" }), { choice: "c", count: 2, remaining_s: 3 });
  assert.deepEqual(paths, ["/safelight/choices?workflow=w+1&node=5%3A2"]);
  assert.equal(source.picture("c/..", 3), "/safelight/choices/c%2F../3.jpg");
});

test("no choice, a refusal and a missing server are no choice", async () => {
  for (const request of [async () => reply([]), async () => reply({ error: "no" }, false), async () => Promise.reject(new Error("gone"))]) {
    assert.equal(await new ChoiceSource(request).at({ workflow: "w", node: "1" }), null);
  }
});

test("an answer returns an error in words", async () => {
  const sent = [];
  const source = (answer) => new ChoiceSource(async (path, options) => (sent.push([path, options]), answer()));
  assert.equal(await source(() => reply({ chosen: [0] })).answer("c", [0, 2]), "");
  assert.deepEqual(sent[0], ["/safelight/choices/c", { method: "POST", body: '{"chosen":[0,2]}' }]);
  assert.equal(await source(() => reply({ error: "the choice is made" }, false)).answer("c", []), "the choice is made");
  assert.match(await source(() => { throw new Error("gone"); }).answer("c", []), /cannot be reached/);
});
