/** What keys ask for. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { wishOf } from "../../web/shortcuts.mjs";

const pressed = (key, more = {}) => wishOf({ key, target: { closest: () => null }, ...more });

test("arrows go a step, with shift five", () => {
  assert.deepEqual([pressed("ArrowLeft"), pressed("ArrowRight")], [["travel", -1], ["travel", 1]]);
  assert.deepEqual([pressed("ArrowLeft", { shiftKey: true }), pressed("ArrowRight", { shiftKey: true })], [["travel", -5], ["travel", 5]]);
});

test("letters are the same with and without shift, digits are runs", () => {
  assert.deepEqual([pressed("l"), pressed("L", { shiftKey: true })], [["hold"], ["hold"]]);
  assert.deepEqual([pressed("1"), pressed("9"), pressed("0")], [["run", 1], ["run", 9], null]);
});

test("what is for the host or the browser is left to them", () => {
  for (const held of ["ctrlKey", "metaKey", "altKey"]) assert.equal(pressed("c", { [held]: true }), null);
  for (const key of ["q", "Tab", "Enter", "F5", "constructor"]) assert.equal(pressed(key), null);
});

test("on a button the space bar is the button's", () => {
  assert.deepEqual(pressed(" "), ["play"]);
  assert.equal(pressed(" ", { target: { closest: () => ({}) } }), null);
});
