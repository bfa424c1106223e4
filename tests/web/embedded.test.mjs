/** A page that holds its pictures within itself: their addresses, and the colours around it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { addressed, surroundings } from "../../web/embedded.mjs";

function windowWith(blobs) {
  return {
    Blob: class {
      constructor([bytes], { type }) {
        Object.assign(this, { bytes, type });
      }
    },
    URL: { createObjectURL: (blob) => `blob:null/${blobs.push(blob)}` },
    atob,
  };
}

test("a picture's address is made of its bytes when it is asked for, once, and ends with its name", () => {
  const blobs = [];
  const picture = addressed({ "a 1.jpg": btoa("one"), "b.webp": btoa("two"), "c.xyz": "" }, windowWith(blobs));
  assert.equal(blobs.length, 0);
  assert.equal(picture("run", "a 1.jpg", 0.5), "blob:null/1#a%201.jpg");
  assert.equal(picture("run", "a 1.jpg", 0.7), "blob:null/1#a%201.jpg");
  assert.equal(picture("run", "b.webp"), "blob:null/2#b.webp");
  assert.deepEqual(blobs.map(({ bytes }) => String.fromCharCode(...bytes)), ["one", "two"]);
  assert.deepEqual(blobs.map(({ type }) => type), ["image/jpeg", "image/webp"]);
  assert.equal(picture("run", "c.xyz"), "blob:null/3#c.xyz");
});

test("a picture that is not there has no address", () => {
  assert.equal(addressed({}, windowWith([]))("run", "gone.jpg"), "");
});

/** A frame within elements of these backgrounds, from the inside out. */
function framed(...backgrounds) {
  const defaultView = { getComputedStyle: ({ background }) => ({ backgroundColor: background, color: `on ${background}` }) };
  const elements = backgrounds.map((background) => ({ background, ownerDocument: { defaultView } }));
  elements.forEach((element, i) => (element.parentElement = elements[i + 1] ?? null));
  return { frameElement: { parentElement: elements[0] } };
}

test("the ground is that of the nearest element that has one, the text that of the place", () => {
  const around = surroundings(framed("rgba(0, 0, 0, 0)", "transparent", "rgb(17, 17, 17)", "rgb(1, 2, 3)"));
  assert.deepEqual(around, { ground: "rgb(17, 17, 17)", text: "on rgba(0, 0, 0, 0)" });
});

test("without a frame, without leave to look at it, or without a ground nothing is known", () => {
  assert.equal(surroundings({ frameElement: null }), null);
  assert.equal(surroundings(framed("transparent", "rgba(9, 9, 9, 0)")), null);
});
