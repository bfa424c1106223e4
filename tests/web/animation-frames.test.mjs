/** Single frames of animated pictures. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { AnimationFrames, canDecodeFrames, frameAddress, parseFrameAddress } from "../../web/animation-frames.mjs";

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

test("an address names a frame of a file, or a whole picture", () => {
  assert.deepEqual(parseFrameAddress(frameAddress("/runs/a/step.webp?at=1.5", 12)), { file: "/runs/a/step.webp?at=1.5", frame: 12 });
  for (const whole of ["/runs/a/step.webp", "/runs/a/x%23frame=1", "/runs/a/x#frame=", "/#frame=1/x"]) assert.equal(parseFrameAddress(whole), null);
});

test("a file page, an insecure page and a browser without a decoder decode no frames", () => {
  assert.equal(canDecodeFrames(window), true);
  for (const missing of [{ isSecureContext: false }, { ImageDecoder: undefined }, { location: { protocol: "file:" } }]) {
    assert.equal(canDecodeFrames({ ...window, ...missing }), false);
  }
});

test("a file is read once for all of its frames, and a frame beyond the last is the last one", async () => {
  const frames = new AnimationFrames(window);
  const canvas = await frames.get("a", 1);
  await frames.get("a", 7);
  assert.deepEqual([canvas.width, canvas.height], [8, 6]);
  assert.deepEqual([fetched, drawn], [["a"], ["a image/webp 1", "a image/webp 2"]]);
});

test("the two most recently used files stay open", async () => {
  const frames = new AnimationFrames(window);
  for (const file of ["a", "b", "a", "c", "a"]) await frames.get(file, 0);
  await null;
  assert.deepEqual([fetched, closed], [["a", "b", "c"], ["b image/webp"]]);
});
