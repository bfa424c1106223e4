/** Creates the small elements that the viewer consists of. */

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

/**
 * The properties of an element: as in the DOM, with `data` for `dataset`, and some of its style.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @typedef {Partial<Omit<HTMLElementTagNameMap[Tag], "style">> & {data?: Record<string, string | number>, style?: Partial<CSSStyleDeclaration>}} Properties
 */

/**
 * An element with properties and children.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Document} document
 * @param {Tag} tag
 * @param {Properties<Tag>} [properties]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function create(document, tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { data, style, ...rest } = properties;
  Object.assign(element, rest);
  Object.assign(element.dataset, data);
  Object.assign(element.style, style);
  element.append(...children);
  return element;
}

/**
 * An SVG element with attributes and children.
 *
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Document} document
 * @param {Tag} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {...(Node | string)} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function createSvg(document, tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG_NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** The window of a document that is on the screen. @param {Document} document */
export function windowOf(document) {
  return /** @type {Window & typeof globalThis} */ (document.defaultView);
}

/** The element with the keyboard focus, in the document or the shadow root that an element is in. @param {Element} element */
export function activeElementAround(element) {
  return /** @type {Document | ShadowRoot} */ (element.getRootNode()).activeElement;
}

/** The element that an event comes from. @param {Event} event */
export function targetOf(event) {
  return /** @type {HTMLElement} */ (event.target);
}

/** The data that Python has put into a page of its own. @param {Document} document */
export function pageData(document) {
  return JSON.parse(/** @type {HTMLElement} */ (document.getElementById("safelight")).textContent);
}

/** Paths in a box of 16 by 16. */
const ICONS = {
  play: "M5 3.2v9.6l8-4.8z",
  pause: "M5 3.5v9M11 3.5v9",
  playFrames: "M2 3.5h12v9H2zM6.6 5.9v4.2L10 8z",
  pauseFrames: "M2 3.5h12v9H2zM6.6 6.2v3.6M9.4 6.2v3.6",
  full: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  window: "M6 2.5V6H2.5M13.5 6H10V2.5M10 13.5V10h3.5M2.5 10H6v3.5",
  pixels: "M2.5 13.5v-3.7h3.7V6.2h3.6V2.5h3.7",
  smooth: "M2.5 13.5C9 13 7 3 13.5 2.5",
  noise: "M3 3.5v.1M8 3v.1M13 4v.1M5.5 6.5v.1M10.5 6.8v.1M3 9.5v.1M8 9.6v.1M13 9v.1M5.5 12.6v.1M10.5 12.8v.1",
  save: "M8 2.5v7.7M4.8 7.2 8 10.4l3.2-3.2M2.5 13.5h11",
  copy: "M5.5 5.5h8v8h-8zM3.5 10.5h-1v-8h8v1",
  openTab: "M9.5 2.5h4V6.5M13.5 2.5 7.5 8.5M12.5 9.5v4h-10v-10h4",
  lock: "M3.5 7.5h9v6h-9zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5",
  pin: "M5.5 2.5h5M6.3 2.5v4L4 9.5h8L9.7 6.5v-4M8 9.5v4",
  compare: "M2.5 5.2h10M10 2.7l2.5 2.5L10 7.7M13.5 10.8h-10M6 8.3l-2.5 2.5L6 13.3",
  wipe: "M2.5 3.5h11v9h-11zM8 1.5v13",
  side: "M2.5 3.5h4.3v9H2.5zM9.2 3.5h4.3v9H9.2z",
  difference: "M9.5 8a3.6 3.6 0 1 1-7.2 0 3.6 3.6 0 0 1 7.2 0M13.7 8a3.6 3.6 0 1 1-7.2 0 3.6 3.6 0 0 1 7.2 0",
  grid: "M2.5 2.5h4.3v4.3H2.5zM9.2 2.5h4.3v4.3H9.2zM2.5 9.2h4.3v4.3H2.5zM9.2 9.2h4.3v4.3H9.2z",
  hold: "M8 2.5a5.5 5.5 0 1 0 .01 0M6.5 6v4M9.5 6v4",
  resume: "M8 2.5a5.5 5.5 0 1 0 .01 0M6.8 5.7v4.6L10.3 8z",
  keep: "M3.5 3.5h9v9h-9zM5.8 8.2l1.7 1.7 3-3.6",
  star: "M8 2.3l1.75 3.75 4.1.5-3.03 2.8.8 4.05L8 11.4l-3.62 2 .8-4.05-3.03-2.8 4.1-.5z",
  note: "M3.5 2.5h9v7.7l-3.3 3.3H3.5zM12.5 10.2H9.2v3.3M5.8 5.5h4.4M5.8 8h2.6",
  folder: "M2.5 12.5v-9h4l1.5 2h5.5v7z",
  remove: "M3 4.5h10M6.2 4.5v-2h3.6v2M4.3 4.5l.6 9h6.2l.6-9M6.8 7v4M9.2 7v4",
  workflow: "M2.5 3h4v3.5h-4zM9.5 9.5h4V13h-4zM6.5 4.8h3a1.5 1.5 0 0 1 1.5 1.5v3.2",
  close: "M4.5 4.5l7 7M11.5 4.5l-7 7",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  newer: "M10 3.5 5.5 8l4.5 4.5",
  older: "M6 3.5 10.5 8 6 12.5",
};

/** @typedef {keyof typeof ICONS} IconName */

/** @param {string} face of a button @returns {face is IconName} */
const isIcon = (face) => face in ICONS;

/** @param {Document} document @param {IconName} name */
export function icon(document, name) {
  const path = createSvg(document, "path", { d: ICONS[name] });
  return createSvg(document, "svg", { class: `icon icon-${name}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
}

/**
 * A button.
 *
 * @param {Document} document
 * @param {string} face name of an icon, or a short text
 * @param {string} label tooltip and accessible name
 * @param {(event: MouseEvent) => unknown} onClick
 */
export function button(document, face, label, onClick, className = "") {
  const created = create(document, "button", { type: "button", className });
  setButton(document, created, face, label);
  created.addEventListener("click", onClick);
  return created;
}

/**
 * Changes the face and the label of a button.
 *
 * @param {Document} document @param {HTMLButtonElement} button @param {string} face @param {string} label
 */
export function setButton(document, button, face, label) {
  if (button.dataset.face !== face) {
    button.dataset.face = face;
    button.replaceChildren(isIcon(face) ? icon(document, face) : face);
  }
  button.title = button.ariaLabel = label;
}

/**
 * The pointer's position in an element, in the element's own pixels: a canvas around it may be zoomed.
 *
 * @param {HTMLElement} element @param {MouseEvent} event
 */
export function pointerPosition(element, event) {
  const { left, top, width, height } = element.getBoundingClientRect();
  return {
    x: ((event.clientX - left) * element.offsetWidth) / (width || 1),
    y: ((event.clientY - top) * element.offsetHeight) / (height || 1),
  };
}

/** Screen pixels per pixel of the element. @param {HTMLElement} element */
export function pixelRatio(element) {
  const zoomed = element.getBoundingClientRect().width / (element.offsetWidth || 1);
  return (zoomed || 1) * (element.ownerDocument.defaultView?.devicePixelRatio ?? 1);
}

/**
 * Calls `start`, `move` and `end` while the user drags in an element.
 *
 * @param {HTMLElement} element
 * @param {(event: PointerEvent) => boolean | void} start may refuse the drag by returning false
 * @param {(event: PointerEvent) => void} move
 * @param {(event: PointerEvent) => void} [end]
 */
export function onDrag(element, start, move, end = () => {}) {
  /** @type {number | null} */
  let pointer = null;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || pointer !== null || start(event) === false) return;
    pointer = event.pointerId;
    element.setPointerCapture(pointer);
  });
  element.addEventListener("pointermove", (event) => event.pointerId === pointer && move(event));
  /** @param {PointerEvent} event */
  const stop = (event) => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    end(event);
  };
  element.addEventListener("pointerup", stop);
  element.addEventListener("pointercancel", stop);
}
