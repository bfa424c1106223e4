/** A page that contains its pictures: their addresses, and the colors around the page. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { embeddedPictures, surroundingColors } from "../../web/embedded.mjs";

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

test("the address of a picture is created once, when it is asked for, and ends with its name", () => {
  const blobs = [];
  const picture = embeddedPictures({ "a 1.jpg": btoa("one"), "b.webp": btoa("two"), "c.xyz": "" }, windowWith(blobs));
  assert.equal(blobs.length, 0);
  assert.equal(picture("run", "a 1.jpg", 0.5), "blob:null/1#a%201.jpg");
  assert.equal(picture("run", "a 1.jpg", 0.7), "blob:null/1#a%201.jpg");
  assert.equal(picture("run", "b.webp"), "blob:null/2#b.webp");
  assert.deepEqual(blobs.map(({ bytes }) => String.fromCharCode(...bytes)), ["one", "two"]);
  assert.deepEqual(blobs.map(({ type }) => type), ["image/jpeg", "image/webp"]);
  assert.equal(picture("run", "c.xyz"), "blob:null/3#c.xyz");
});

test("an unknown picture has no address", () => {
  assert.equal(embeddedPictures({}, windowWith([]))("run", "gone.jpg"), "");
});

/** A window in a frame, inside of elements with these backgrounds; the first is the innermost. */
function framed(...backgrounds) {
  const defaultView = { getComputedStyle: ({ background }) => ({ backgroundColor: background, color: `on ${background}` }) };
  const elements = backgrounds.map((background) => ({ background, ownerDocument: { defaultView } }));
  elements.forEach((element, i) => (element.parentElement = elements[i + 1] ?? null));
  return { frameElement: { parentElement: elements[0] } };
}

test("the background is that of the nearest element with one, the text color that of the parent", () => {
  const colors = surroundingColors(framed("rgba(0, 0, 0, 0)", "transparent", "rgb(17, 17, 17)", "rgb(1, 2, 3)"));
  assert.deepEqual(colors, { ground: "rgb(17, 17, 17)", text: "on rgba(0, 0, 0, 0)" });
});

test("there are no colors without a frame or without a background", () => {
  assert.equal(surroundingColors({ frameElement: null }), null);
  assert.equal(surroundingColors(framed("transparent", "rgba(9, 9, 9, 0)")), null);
});
