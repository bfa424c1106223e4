/** The commands of keys. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { commandOf } from "../../web/shortcuts.mjs";

const pressed = (key, more = {}) => commandOf({ key, target: { closest: () => null }, ...more });

test("arrows move by a step, with shift by five", () => {
  assert.deepEqual([pressed("ArrowLeft"), pressed("ArrowRight")], [["move", -1], ["move", 1]]);
  assert.deepEqual([pressed("ArrowLeft", { shiftKey: true }), pressed("ArrowRight", { shiftKey: true })], [["move", -5], ["move", 5]]);
});

test("up and down go through a batch by one", () => {
  assert.deepEqual([pressed("ArrowUp"), pressed("ArrowDown", { shiftKey: true })], [["moveItem", -1], ["moveItem", 1]]);
});

test("letters ignore shift, and digits select runs", () => {
  assert.deepEqual([pressed("l"), pressed("L", { shiftKey: true })], [["lock"], ["lock"]]);
  assert.deepEqual([pressed("1"), pressed("9"), pressed("0")], [["run", 1], ["run", 9], null]);
});

test("the menu key and its substitute open the menu", () => {
  assert.deepEqual([pressed("ContextMenu"), pressed("F10", { shiftKey: true }), pressed("F10")], [["menu"], ["menu"], null]);
});

test("keys of the host and of the browser are ignored", () => {
  for (const modifier of ["ctrlKey", "metaKey", "altKey"]) assert.equal(pressed("c", { [modifier]: true }), null);
  for (const key of ["q", "Tab", "Enter", "F5", "constructor"]) assert.equal(pressed(key), null);
});

test("on a button the space bar activates the button", () => {
  assert.deepEqual(pressed(" "), ["play"]);
  assert.equal(pressed(" ", { target: { closest: () => ({}) } }), null);
});
