/** Where a node stands. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { executionIds, formerPlaces, places, readStays, withStay } from "../../web/node-place.mjs";

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

test("a node whose workflow has another id by now was where it had the id that it has", () => {
  const stays = [{ workflow: "v", node: "2", until: 5 }, { workflow: "v", node: "3", until: 9 }, { workflow: "w", node: "2", until: 7 }];
  assert.deepEqual(formerPlaces(stays, [{ workflow: "w", node: "2" }]), [stays[0]]);
  assert.deepEqual(formerPlaces(stays, [{ workflow: "w", node: "8" }]), [], "a copy of the node within the workflow is another node");
  assert.deepEqual(formerPlaces(stays, []), []);
});

test("a node remembers the newest run of where it is, of the last few places", () => {
  const one = withStay([], { workflow: "v", node: "2" }, 5);
  assert.deepEqual(one, [{ workflow: "v", node: "2", until: 5 }]);
  assert.equal(withStay(one, { workflow: "v", node: "2" }, 5), one);
  assert.deepEqual(withStay(one, { workflow: "v", node: "2", until: 9 }, 6), [{ workflow: "v", node: "2", until: 6 }]);
  const many = ["a", "b", "c", "d"].reduce((stays, workflow) => withStay(stays, { workflow, node: "2" }, 7), one);
  assert.deepEqual(many.map(({ workflow }) => workflow), ["a", "b", "c", "d"]);
});

test("what a workflow from elsewhere says in the place of what a node remembers is left out", () => {
  for (const kept of [undefined, null, "v", 7, {}, [null, "v", {}, { workflow: "v", node: 2, until: 5 }, { workflow: "v", node: "2" }]]) {
    assert.deepEqual(readStays(kept), []);
  }
  assert.deepEqual(readStays([7, { workflow: "v", node: "2", until: 5 }]), [{ workflow: "v", node: "2", until: 5 }]);
});
