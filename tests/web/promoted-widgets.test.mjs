/** The widgets of a subgraph's node that stand for an input in it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { promotedWidgets } from "../../web/promoted-widgets.mjs";

/** A node in a subgraph that two nodes hold, with its input `decoder` linked to an input of the subgraph. */
function nested({ origin = -10, name = "decoder" } = {}) {
  const subgraph = { id: "s", inputNode: { id: -10 }, inputs: [{ name: "seed" }, { name: "chosen" }], nodes: [] };
  const holder = (id) => ({ id, subgraph, widgets: [{ name: "seed", of: id }, { name: "chosen", of: id }] });
  const rootGraph = { id: "r", nodes: [holder(1), { id: 2 }, holder(3)] };
  const links = { 7: { origin_id: origin, origin_slot: 1 } };
  Object.assign(subgraph, { rootGraph, getLink: (id) => links[id] ?? null });
  return { graph: subgraph, inputs: [{ name: "model", link: 1 }, { name, widget: { name }, link: 7 }] };
}

test("each node of the subgraph has a widget for the input", () => {
  assert.deepEqual(promotedWidgets(nested(), "decoder"), [{ name: "chosen", of: 1 }, { name: "chosen", of: 3 }]);
});

test("an input that is not linked to the subgraph has none", () => {
  assert.deepEqual(promotedWidgets(nested({ origin: 4 }), "decoder"), []);
  assert.deepEqual(promotedWidgets(nested({ name: "show" }), "decoder"), []);
  assert.deepEqual(promotedWidgets({ graph: null, inputs: [] }, "decoder"), []);
  assert.deepEqual(promotedWidgets({ graph: { id: "r", nodes: [] }, inputs: [{ widget: { name: "decoder" }, link: 7 }] }, "decoder"), []);
});
