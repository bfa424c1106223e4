/** Where a node stands. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { executionIds, places } from "../../web/places.mjs";

/** Graphs as LiteGraph has them: a root, and in it subgraphs that are held by nodes. */
function graph(id, root = null) {
  const made = { id, nodes: [] };
  made.rootGraph = root ?? made;
  return made;
}

function put(graph, id, more = {}) {
  const node = { id, graph, ...more };
  graph.nodes.push(node);
  return node;
}

test("a node of the workflow itself has its own id", () => {
  assert.deepEqual(places(put(graph("w"), 2)), [{ workflow: "w", node: "2" }]);
});

test("a node in a subgraph has the ids of those that hold it before its own", () => {
  const root = graph("w");
  const outer = graph("outer", root);
  const inner = graph("inner", root);
  put(root, 6, { subgraph: outer });
  put(outer, 3, { subgraph: inner });
  assert.deepEqual(executionIds(put(inner, 2)), ["6:3:2"]);
});

test("a subgraph that is used twice puts its node in two places", () => {
  const root = graph("w");
  const shared = graph("shared", root);
  put(root, 6, { subgraph: shared });
  put(root, 8, { subgraph: shared });
  assert.deepEqual(executionIds(put(shared, 2)), ["6:2", "8:2"]);
});

test("a graph that comes wrapped by Vue is the same graph", () => {
  const root = graph("w");
  const shared = graph("shared", root);
  put(root, 6, { subgraph: shared });
  assert.deepEqual(executionIds(put(new Proxy(shared, {}), 2)), ["6:2"]);
});

test("a node that is in no graph, or in one that nothing holds, is nowhere", () => {
  assert.deepEqual(places({ id: -1, graph: null }), []);
  assert.deepEqual(places(put(graph("lost", graph("w")), 2)), []);
});
