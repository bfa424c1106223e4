/** Animated pictures, frame by frame. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { canTakeApart, frameAddress, frameOf, Frames } from "../../web/animation-frames.mjs";

let drawn, closed, fetched, window;

class ImageDecoder {
  tracks = { ready: Promise.resolve(), selectedTrack: { frameCount: 3 } };

  constructor({ data, type }) {
    this.name = `${new TextDecoder().decode(data)} ${type}`;
  }

  async decode({ frameIndex }) {
    return { image: { displayWidth: 8, displayHeight: 6, name: `${this.name} ${frameIndex}`, close() {} } };
  }

  close() {
    closed.push(this.name);
  }
}

beforeEach(() => {
  [drawn, closed, fetched] = [[], [], []];
  const canvas = () => ({ dataset: {}, style: {}, append() {}, getContext: () => ({ drawImage: ({ name }) => drawn.push(name) }) });
  const fetch = async (file) => {
    fetched.push(file);
    return new Response(file, { headers: { "Content-Type": "image/webp" } });
  };
  window = { document: { createElement: canvas }, fetch, ImageDecoder, isSecureContext: true, location: { protocol: "http:" } };
});

test("an address says which frame of which file, or that it is a picture as a whole", () => {
  assert.deepEqual(frameOf(frameAddress("/runs/a/step.webp?at=1.5", 12)), { file: "/runs/a/step.webp?at=1.5", frame: 12 });
  for (const whole of ["/runs/a/step.webp", "/runs/a/x%23frame=1", "/runs/a/x#frame=", "/#frame=1/x"]) assert.equal(frameOf(whole), null);
});

test("a page from the disk, over a plain connection or in a browser without a decoder takes nothing apart", () => {
  assert.equal(canTakeApart(window), true);
  for (const lack of [{ isSecureContext: false }, { ImageDecoder: undefined }, { location: { protocol: "file:" } }]) {
    assert.equal(canTakeApart({ ...window, ...lack }), false);
  }
});

test("a file is read once for all of its frames, and beyond its last one is its last one", async () => {
  const frames = new Frames(window);
  const canvas = await frames.get("a", 1);
  await frames.get("a", 7);
  assert.deepEqual([canvas.width, canvas.height], [8, 6]);
  assert.deepEqual([fetched, drawn], [["a"], ["a image/webp 1", "a image/webp 2"]]);
});

test("the two files that were looked at last are held", async () => {
  const frames = new Frames(window);
  for (const file of ["a", "b", "a", "c", "a"]) await frames.get(file, 0);
  await null;
  assert.deepEqual([fetched, closed], [["a", "b", "c"], ["b image/webp"]]);
});
