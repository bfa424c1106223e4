/** The places of a node. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { EMPTY_WORKFLOW, executionIds, followMove, formerPlaces, giveWorkflowId, holdsGraph, innerPlaces, nodePlaces, readPastPlaces, subgraphNodes, withPastPlace, copyOfWorkflow } from "../../web/node-place.mjs";

/** A graph of LiteGraph: the root, or a subgraph of it, which a node holds. */
function graph(id, root = null) {
  const created = { id, nodes: [] };
  created.rootGraph = root ?? created;
  return created;
}

function put(graph, id, more = {}) {
  const node = { id, graph, ...more };
  graph.nodes.push(node);
  return node;
}

test("a node at the top level has its own id", () => {
  assert.deepEqual(nodePlaces(put(graph("w"), 2)), [{ workflow: "w", node: "2" }]);
});

test("a node in a subgraph has the ids of the surrounding nodes before its own", () => {
  const root = graph("w");
  const outer = graph("outer", root);
  const inner = graph("inner", root);
  put(root, 6, { subgraph: outer });
  put(outer, 3, { subgraph: inner });
  assert.deepEqual(executionIds(put(inner, 2)), ["6:3:2"]);
});

test("a node in a subgraph that is used twice has two places", () => {
  const root = graph("w");
  const shared = graph("shared", root);
  put(root, 6, { subgraph: shared });
  put(root, 8, { subgraph: shared });
  assert.deepEqual(executionIds(put(shared, 2)), ["6:2", "8:2"]);
});

test("a graph in a Vue proxy is the same graph", () => {
  const root = graph("w");
  const shared = graph("shared", root);
  put(root, 6, { subgraph: shared });
  assert.deepEqual(executionIds(put(new Proxy(shared, {}), 2)), ["6:2"]);
});

test("a node without a graph, or in an unused subgraph, has no place", () => {
  assert.deepEqual(nodePlaces({ id: -1, graph: null }), []);
  assert.deepEqual(nodePlaces(put(graph("lost", graph("w")), 2)), []);
});

test("the former places of a node have its id in another workflow", () => {
  const past = [{ workflow: "v", node: "2", until: 5 }, { workflow: "v", node: "3", until: 9 }, { workflow: "w", node: "2", until: 7 }];
  assert.deepEqual(formerPlaces(past, [{ workflow: "w", node: "2" }]), [past[0]]);
  assert.deepEqual(formerPlaces(past, [{ workflow: "w", node: "8" }]), [], "a copy of the node in the workflow is another node");
  assert.deepEqual(formerPlaces(past, []), []);
});

test("a node that is moved into a subgraph, and out of it again, keeps its former places", () => {
  const root = graph("w");
  const inner = graph("inner", root);
  put(root, 5, { subgraph: inner, type: "a subgraph" });
  const past = [{ workflow: "v", node: "2", until: 3 }, { workflow: "w", node: "2", until: 5 }];
  const inside = put(inner, 2, { type: "preview" });
  const moved = followMove(past, inside);
  assert.deepEqual(formerPlaces(moved, nodePlaces(inside)).map(({ workflow, node }) => workflow + node), ["v2", "w2"]);
  assert.equal(followMove(moved, inside), moved, "nothing is new");
  assert.deepEqual(readPastPlaces(structuredClone(moved)), moved);

  const ran = withPastPlace(moved, { workflow: "w", node: "5:2" }, 9);
  root.nodes.pop();
  const outside = put(root, 8, { type: "preview" });
  const places = formerPlaces(followMove(ran, outside), nodePlaces(outside));
  assert.deepEqual(places.map(({ workflow, node }) => workflow + node), ["v2", "w2", "w5:2"]);
});

test("a subgraph's node has the places of the nodes in it, through itself only", () => {
  const root = graph("w");
  const [middle, inner] = [graph("middle", root), graph("inner", root)];
  const [one, other] = [put(root, 6, { subgraph: middle }), put(root, 8, { subgraph: middle })];
  const nested = put(middle, 3, { subgraph: inner });
  put(middle, 4, { type: "preview" });
  put(inner, 2, { type: "preview" });
  put(inner, 5, { type: "something else" });
  const ids = (holder) => innerPlaces(holder, "preview").map(({ node }) => node);
  assert.deepEqual([ids(one), ids(other)], [["6:3:2", "6:4"], ["8:3:2", "8:4"]]);
  assert.deepEqual(ids(nested), ["6:3:2", "8:3:2"]);
  assert.deepEqual(subgraphNodes(root), [one, nested, other, nested]);
  assert.deepEqual([holdsGraph(one, inner), holdsGraph(nested, middle)], [true, false]);
});

test("a copy of a node is not a moved node", () => {
  const root = graph("w");
  const past = [{ workflow: "w", node: "2", until: 5 }];
  put(root, 2, { type: "preview" });
  const copy = put(root, 8, { type: "preview" });
  assert.equal(followMove(past, copy), past);
  const elsewhere = put(graph("other"), 8, { type: "preview" });
  assert.deepEqual(formerPlaces(followMove(past, elsewhere), nodePlaces(elsewhere)), []);
});

test("a node stores the newest run of its last eight places", () => {
  const one = withPastPlace([], { workflow: "v", node: "2" }, 5);
  assert.deepEqual(one, [{ workflow: "v", node: "2", until: 5 }]);
  assert.equal(withPastPlace(one, { workflow: "v", node: "2" }, 5), one);
  assert.deepEqual(withPastPlace(one, { workflow: "v", node: "2", until: 9 }, 6), [{ workflow: "v", node: "2", until: 6 }]);
  const many = [..."abcdefgh"].reduce((past, workflow) => withPastPlace(past, { workflow, node: "2" }, 7), one);
  assert.deepEqual(many.map(({ workflow }) => workflow), [..."abcdefgh"]);
});

test("invalid past places in a workflow are ignored", () => {
  for (const value of [undefined, null, "v", 7, {}, [null, "v", {}, { workflow: "v", node: 2, until: 5 }, { workflow: "v", node: "2" }]]) {
    assert.deepEqual(readPastPlaces(value), []);
  }
  assert.deepEqual(readPastPlaces([7, { workflow: "v", node: "2", until: 5 }]), [{ workflow: "v", node: "2", until: 5 }]);
});

test("a cleared graph gets an id of its own when it is queued, and keeps it after a reload", () => {
  const [one, other] = [graph(EMPTY_WORKFLOW), graph(EMPTY_WORKFLOW)];
  const node = put(one, 2);
  assert.deepEqual(nodePlaces(node), [{ workflow: EMPTY_WORKFLOW, node: "2" }]);
  assert.deepEqual([giveWorkflowId(node), giveWorkflowId(node)], [true, false]);
  assert.equal(one.id, EMPTY_WORKFLOW);
  const [{ workflow }] = nodePlaces(node);
  assert.match(workflow, /^[0-9a-f]{32}$/);
  other.extra = structuredClone(one.extra); // as the frontend saves it
  assert.deepEqual(nodePlaces(put(other, 2)), [{ workflow, node: "2" }]);
});

test("a graph with an id keeps it", () => {
  const node = put(graph("w"), 2);
  node.graph.extra = { safelight_workflow: "given" };
  assert.equal(giveWorkflowId(node), false);
  assert.deepEqual(nodePlaces(node), [{ workflow: "w", node: "2" }]);
  for (const extra of [null, undefined, 7, { safelight_workflow: 7 }]) {
    const odd = put(Object.assign(graph(EMPTY_WORKFLOW), { extra }), 2);
    assert.equal(nodePlaces(odd)[0].workflow, EMPTY_WORKFLOW);
  }
});

test("a copy of a workflow has another id, and its nodes show the runs that they had", () => {
  const workflow = { id: "old", nodes: [{ id: 2, type: "P", properties: { a: 1 } }, { id: 3, type: "Q" }], extra: {} };
  const copy = copyOfWorkflow(workflow, "P", "runs", 50);
  assert.match(copy.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.deepEqual(copy.nodes, [{ id: 2, type: "P", properties: { a: 1, runs: [{ workflow: "old", node: "2", until: 50 }] } }, { id: 3, type: "Q" }]);
  assert.deepEqual(workflow.nodes[0].properties, { a: 1 });
  const cleared = { ...workflow, id: "00000000-0000-0000-0000-000000000000", extra: { safelight_workflow: "given" } };
  assert.equal(copyOfWorkflow(cleared, "P", "runs", 50).nodes[0].properties.runs[0].workflow, "given");
  assert.deepEqual(copyOfWorkflow({ nodes: [{ id: 2, type: "P" }] }, "P", "runs", 50).nodes, [{ id: 2, type: "P" }]);
});
