/** Computes the position of a picture in its pane for a zoom and a pan. */

const MAX_PIXEL_PX = 48; // size in the pane of one pixel of the final image
const EPSILON = 1e-6;

/**
 * @typedef {object} Zoom independent of the size of the pane
 * @property {number} scale 1: the whole picture fits
 * @property {number} x the part of the picture in the center of the pane; 0 is its left edge, 1 its right edge
 * @property {number} y likewise; 0 is its top edge, 1 its bottom edge
 *
 * @typedef {{width: number, height: number}} Size
 */

/** @type {Zoom} */
export const FIT = Object.freeze({ scale: 1, x: 0.5, y: 0.5 });

/** Pixels of the pane per pixel of the picture when the whole picture fits. @param {Size} pane @param {Size} picture */
function fitScale(pane, picture) {
  return Math.max(EPSILON, Math.min(pane.width / picture.width, pane.height / picture.height));
}

/**
 * Left, top, width and height of the picture in the pane, in pixels of the pane.
 *
 * @param {Zoom} zoom @param {Size} pane @param {Size} picture
 */
export function pictureBox(zoom, pane, picture) {
  const scale = fitScale(pane, picture) * zoom.scale;
  const [width, height] = [picture.width * scale, picture.height * scale];
  return { left: pane.width / 2 - zoom.x * width, top: pane.height / 2 - zoom.y * height, width, height };
}

/**
 * The nearest zoom within the limits that leaves no empty space where the picture could be.
 *
 * @param {Zoom} zoom @param {Size} pane @param {Size} picture
 * @returns {Zoom}
 */
export function clampZoom(zoom, pane, picture, minScale = 1) {
  const scale = Math.min(Math.max(zoom.scale, minScale), Math.max(minScale, MAX_PIXEL_PX / fitScale(pane, picture)));
  const { width, height } = pictureBox({ ...zoom, scale }, pane, picture);
  /** @param {number} at @param {number} paneSize @param {number} size */
  const clamp = (at, paneSize, size) => {
    const margin = paneSize / 2 / Math.max(size, EPSILON);
    return margin >= 0.5 ? 0.5 : Math.min(Math.max(at, margin), 1 - margin);
  };
  return { scale, x: clamp(zoom.x, pane.width, width), y: clamp(zoom.y, pane.height, height) };
}

/**
 * Zooms by a factor; the part of the picture at `point` stays there.
 *
 * @param {Zoom} zoom @param {Size} pane @param {Size} picture
 * @param {{x: number, y: number}} point in the pane
 * @param {number} factor
 */
export function zoomedAt(zoom, pane, picture, point, factor) {
  const { left, top, width, height } = pictureBox(zoom, pane, picture);
  const { scale } = clampZoom({ ...zoom, scale: zoom.scale * factor }, pane, picture);
  const ratio = scale / zoom.scale;
  const [u, v] = [(point.x - left) / width, (point.y - top) / height];
  const x = u + (pane.width / 2 - point.x) / (width * ratio);
  const y = v + (pane.height / 2 - point.y) / (height * ratio);
  return clampZoom({ scale, x, y }, pane, picture);
}

/** Moves the picture. @param {Zoom} zoom @param {Size} pane @param {Size} picture @param {{x: number, y: number}} by pixels of the pane */
export function panned(zoom, pane, picture, by) {
  const { width, height } = pictureBox(zoom, pane, picture);
  return clampZoom({ ...zoom, x: zoom.x - by.x / width, y: zoom.y - by.y / height }, pane, picture);
}

/**
 * The zoom with one screen pixel per pixel of the final image.
 *
 * @param {Zoom} zoom @param {Size} pane @param {Size} picture
 * @param {number} pixelRatio screen pixels per pixel of the pane
 */
export function oneToOne(zoom, pane, picture, pixelRatio) {
  const scale = 1 / pixelRatio / fitScale(pane, picture);
  return clampZoom({ ...zoom, scale }, pane, picture, Math.min(1, scale));
}

/** The zoom factor for a turn of the wheel, in pixels, lines or pages. @param {WheelEvent} event */
export function wheelFactor({ deltaY, deltaMode }) {
  return Math.exp(-Math.max(-240, Math.min(240, deltaY * [1, 20, 240][deltaMode ?? 0])) * 0.0022);
}

/** The number of columns of a grid in which `count` pictures are largest. @param {number} count @param {Size} pane @param {Size} picture */
export function columns(count, pane, picture) {
  /** @param {number} n */
  const size = (n) => Math.min(pane.width / n / picture.width, pane.height / Math.ceil(count / n) / picture.height);
  const all = Array.from({ length: count }, (_, i) => i + 1);
  return all.reduce((best, n) => (size(n) > size(best) + EPSILON ? n : best), 1);
}
