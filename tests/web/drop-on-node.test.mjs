/** A picture that is dragged out of a viewer gets to the node on which it is dropped. */

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { giveDropsToNodes } from "../../web/drop-on-node.mjs";

const ADDRESS = "http://127.0.0.1/safelight/runs/a/exports/step_0008.jpg?filename=steps_seed7.png";
const VIEWER = { dataset: { safelight: "safelight_stage" } };

afterEach(() => mock.restoreAll());

/** A page with a canvas and one node on it, and functions that drag from an element and drop on another one. */
function pageWith(node, answer = { ok: true, blob: async () => new Blob(["png"], { type: "image/png" }) }) {
  mock.method(globalThis, "fetch", async (address) => (asked.push(address), answer));
  const [listeners, asked, said] = [{}, [], []];
  const canvas = { canvas: { dataset: {} }, graph: { getNodeOnPos: (x, y) => (x === 10 && y === 20 ? node : null) }, convertEventToCanvasOffset: () => [10, 20] };
  giveDropsToNodes({ addEventListener: (name, listener) => (listeners[name] = listener) }, canvas, (text) => said.push(text));
  const used = [];
  const eventOn = (target) => ({
    composedPath: () => [target, {}],
    dataTransfer: { getData: (type) => (type === "text/uri-list" ? ADDRESS : "") },
    preventDefault: () => used.push("default"),
    stopImmediatePropagation: () => used.push("others"),
  });
  return { asked, said, used, canvas: canvas.canvas, drag: (from) => listeners.dragstart(eventOn(from)), end: () => listeners.dragend(), drop: (on) => listeners.drop(eventOn(on)) };
}

const settled = () => new Promise((done) => setTimeout(done));

test("a node that takes files gets the picture under the name that the server gives it", async () => {
  const files = [];
  const page = pageWith({ onDragOver: () => false, pasteFiles: (given) => files.push(...given) });
  page.drag(VIEWER);
  page.drop(page.canvas);
  await settled();
  assert.deepEqual([page.asked, page.used, page.said], [[ADDRESS], ["default", "others"], []]);
  assert.deepEqual(files.map(({ name, type }) => [name, type]), [["steps_seed7.png", "image/png"]]);
});

test("what the frontend does itself, and what is not ours, is left to it", async () => {
  const takes = { onDragOver: () => false, pasteFiles: () => assert.fail("not ours") };
  const cases = [
    [{ ...takes, onDragOver: () => true }, VIEWER, true],
    [{ onDragOver: () => false }, VIEWER, true],
    [null, VIEWER, true],
    [takes, { dataset: {} }, true],
    [takes, VIEWER, false],
  ];
  for (const [node, from, onCanvas] of cases) {
    const page = pageWith(node);
    page.drag(from);
    page.drop(onCanvas ? page.canvas : { dataset: {} });
    await settled();
    assert.deepEqual([page.asked, page.used], [[], []]);
    mock.restoreAll();
  }
});

test("a drag that has ended gives nothing", async () => {
  const page = pageWith({ pasteFiles: () => assert.fail("not ours") });
  page.drag(VIEWER);
  page.end();
  page.drop(page.canvas);
  await settled();
  assert.deepEqual(page.asked, []);
});

test("a picture that is gone is said", async () => {
  const page = pageWith({ pasteFiles: () => assert.fail("there is no picture") }, { ok: false });
  page.drag(VIEWER);
  page.drop(page.canvas);
  await settled();
  assert.match(page.said[0], /^Not done: /);
});
