/** A socket that is taken off its node and put back. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { HiddenSocket } from "../../web/hidden-socket.mjs";

/** A node as LiteGraph's, with links to the inputs of these names. */
function nodeWith(...linked) {
  const links = new Map(linked.map((name, i) => [i + 1, { id: i + 1 }]));
  const input = (name) => ({ name, type: name.toUpperCase(), link: linked.includes(name) ? linked.indexOf(name) + 1 : null });
  const node = {
    graph: { getLink: (id) => links.get(id) },
    inputs: ["model", "vae", "decoder", "steps"].map(input),
    isInputConnected: (at) => node.inputs[at].link !== null,
    removeInput(at) {
      node.inputs.splice(at, 1);
      place();
    },
    serialize() {
      const data = { inputs: node.inputs.map((slot) => ({ ...slot })) };
      node.onSerialize?.(data);
      return data;
    },
    setDirtyCanvas() {},
  };
  const place = () => node.inputs.forEach(({ link }, at) => link !== null && (links.get(link).target_slot = at));
  place();
  return { node, slots: () => [...links.values()].map(({ target_slot }) => node.inputs[target_slot].name) };
}

const names = ({ inputs }) => inputs.map(({ name }) => name);

test("a hidden socket is off the node, and links lead to the same inputs as before", () => {
  const { node, slots } = nodeWith("model", "steps");
  const socket = new HiddenSocket(node, "vae");
  const before = [...node.inputs];
  for (const hidden of [true, true, false, false]) {
    socket.setHidden(hidden);
    assert.deepEqual(names(node), hidden ? ["model", "decoder", "steps"] : ["model", "vae", "decoder", "steps"]);
    assert.deepEqual(slots(), ["model", "steps"]);
  }
  node.inputs.forEach((input, i) => assert.equal(input, before[i]));
});

test("a socket with a link stays", () => {
  const { node } = nodeWith("vae");
  new HiddenSocket(node, "vae").setHidden(true);
  assert.deepEqual(names(node), ["model", "vae", "decoder", "steps"]);
});

test("a saved workflow is the same, whether the socket is hidden or not", () => {
  const { node } = nodeWith("model");
  let called = 0;
  node.onSerialize = () => called++;
  const socket = new HiddenSocket(node, "vae");
  const shown = node.serialize();
  socket.setHidden(true);
  assert.deepEqual(node.serialize(), shown);
  socket.setHidden(false);
  assert.deepEqual(node.serialize(), shown);
  assert.equal(called, 4);
});

test("a node without the socket stays as it is", () => {
  const { node } = nodeWith();
  const socket = new HiddenSocket(node, "other");
  socket.setHidden(true);
  socket.setHidden(false);
  assert.deepEqual(names(node), ["model", "vae", "decoder", "steps"]);
});
