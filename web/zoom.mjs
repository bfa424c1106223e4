/** Where a picture lies in its pane: the arithmetic of zooming and panning. */

const MAX_PX = 48; // on the screen, of one pixel of the final image
const EMPTY = 1e-6;

/**
 * @typedef {object} Zoom a view that panes of any size can share
 * @property {number} scale 1: the whole picture fits
 * @property {number} x which part of the picture is in the middle of the pane, 0 left, 1 right
 * @property {number} y
 *
 * @typedef {{width: number, height: number}} Size
 */

/** @type {Zoom} */
export const FIT = Object.freeze({ scale: 1, x: 0.5, y: 0.5 });

/** Pixels of the pane for one of the picture when all of it is to be seen. @param {Size} pane @param {Size} picture */
export function fitScale(pane, picture) {
  return Math.max(EMPTY, Math.min(pane.width / picture.width, pane.height / picture.height));
}

/** Left, top, width and height of the picture in the pane. */
export function placed(zoom, pane, picture) {
  const scale = fitScale(pane, picture) * zoom.scale;
  const [width, height] = [picture.width * scale, picture.height * scale];
  return { left: pane.width / 2 - zoom.x * width, top: pane.height / 2 - zoom.y * height, width, height };
}

/** The nearest view that is neither too close nor shows the ground where there could be picture. */
export function kept(zoom, pane, picture, least = 1) {
  const scale = Math.min(Math.max(zoom.scale, least), Math.max(least, MAX_PX / fitScale(pane, picture)));
  const { width, height } = placed({ ...zoom, scale }, pane, picture);
  const within = (at, room, size) => {
    const margin = room / 2 / Math.max(size, EMPTY);
    return margin >= 0.5 ? 0.5 : Math.min(Math.max(at, margin), 1 - margin);
  };
  return { scale, x: within(zoom.x, pane.width, width), y: within(zoom.y, pane.height, height) };
}

/** Zooms so that what is at `point` of the pane stays there. @param {{x: number, y: number}} point in the pane */
export function zoomedAt(zoom, pane, picture, point, factor) {
  const { left, top, width, height } = placed(zoom, pane, picture);
  const { scale } = kept({ ...zoom, scale: zoom.scale * factor }, pane, picture);
  const by = scale / zoom.scale;
  const [u, v] = [(point.x - left) / width, (point.y - top) / height];
  const x = u + (pane.width / 2 - point.x) / (width * by);
  const y = v + (pane.height / 2 - point.y) / (height * by);
  return kept({ scale, x, y }, pane, picture);
}

/** Moves the picture by so many pixels of the pane. */
export function panned(zoom, pane, picture, by) {
  const { width, height } = placed(zoom, pane, picture);
  return kept({ ...zoom, x: zoom.x - by.x / width, y: zoom.y - by.y / height }, pane, picture);
}

/** The view in which a pixel of the final image is one of the screen. @param {number} density screen pixels per pane's */
export function oneToOne(zoom, pane, picture, density) {
  const scale = 1 / density / fitScale(pane, picture);
  return kept({ ...zoom, scale }, pane, picture, Math.min(1, scale));
}

/** A factor for a turn of the wheel, whatever unit the browser counts it in. */
export function wheelFactor({ deltaY, deltaMode }) {
  return Math.exp(-Math.max(-240, Math.min(240, deltaY * [1, 20, 240][deltaMode ?? 0])) * 0.0022);
}

/** The columns of a grid in which `count` pictures are largest. @param {Size} pane @param {Size} picture */
export function columns(count, pane, picture) {
  const size = (n) => Math.min(pane.width / n / picture.width, pane.height / Math.ceil(count / n) / picture.height);
  const all = Array.from({ length: count }, (_, i) => i + 1);
  return all.reduce((best, n) => (size(n) > size(best) + EMPTY ? n : best), 1);
}
