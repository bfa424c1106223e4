/** Puts the stage on ComfyUI's node, in LiteGraph as in Vue nodes. */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "SafelightPreview";
const EXTENSION = "safelight.preview";
const WIDGET = "safelight_stage";
const NAMELESS = "00000000-0000-0000-0000-000000000000";
const WIDTH_PX = 340;
const MARGIN_PX = 10; // that the host leaves around a widget

// The host forbids keeping `.js`, but not `.mjs`: after an update a browser may hold on to old ones for days.
const MODULES = ["store", "follow", "stage", "caption", "places"];

/** What all nodes of the page share. It outlives them: switching tabs of workflows makes all nodes anew. */
async function start() {
  const parts = MODULES.map((name) => new URL(`./${name}.mjs`, import.meta.url));
  await Promise.all(parts.map((part) => fetch(part, { cache: "no-cache" })));
  const [{ Store }, { Follower }, { Stage, loadPicture, LINE_HEIGHT_PX, MIN_HEIGHT_PX }, , { places }] = await Promise.all(
    parts.map((part) => import(part)),
  );

  const store = new Store((path) => api.fetchApi(path, { cache: "no-store" }));
  const load = (path) => loadPicture(api.apiURL(path), document);
  const followers = new Map(); // by node, while it is in a graph

  for (const event of ["safelight.run", "safelight.step"]) {
    api.addEventListener(event, ({ detail }) => store.tell(detail));
  }
  // What the server told while nobody was connected is lost; the first status says that somebody is.
  const askAll = () => [...followers.keys()].forEach(ask);
  api.addEventListener("status", askAll, { once: true });
  api.addEventListener("reconnected", askAll);
  store.onChange(() => followers.forEach((follower, node) => follower.look(places(node))));

  // The first Vue nodes (frontend 1.27) leave DOM widgets out; ours goes where it would have been.
  setInterval(() => {
    if (!window.LiteGraph?.vueNodesMode) return;
    for (const node of followers.keys()) {
      const { element } = node.widgets.find(({ name }) => name === WIDGET);
      if (element.isConnected || node.graph !== app.canvas.graph) continue;
      document.querySelector(`[data-node-id="${node.id}"] .lg-node-widgets`)?.append(element);
    }
  }, 500);

  function ask(node) {
    followers.get(node)?.look(places(node));
    // Workflows without an id share the empty one: what the server has of it may be somebody else's.
    places(node)
      .filter(({ workflow }) => workflow !== NAMELESS)
      .forEach((place) => store.list(place));
  }

  function addStage(node) {
    const stage = new Stage(document);
    const follower = new Follower(store, stage, load);
    const widget = node.addDOMWidget(WIDGET, WIDGET, stage.element, {
      serialize: false, // not in the prompt
      hideOnZoom: false,
      getMinHeight: () => MIN_HEIGHT_PX + 2 * MARGIN_PX,
    });
    widget.serialize = false; // not in the workflow
    stage.element.style.setProperty("--comfy-widget-min-height", MIN_HEIGHT_PX);
    forwardToCanvas(stage.element);
    new ResizeObserver(([{ contentRect }]) => (follower.visible = contentRect.width > 0)).observe(stage.element);

    chain(node, "onAdded", () => {
      followers.set(node, follower);
      setTimeout(() => ask(node)); // when the graph around it is whole, and its place in it known
    });
    chain(node, "onRemoved", () => followers.delete(node));
    // A new node has room for a square picture; one that is loaded is given its own size after this.
    const width = Math.max(node.computeSize()[0], WIDTH_PX);
    const room = width - 2 * MARGIN_PX + LINE_HEIGHT_PX - MIN_HEIGHT_PX;
    node.setSize([width, node.computeSize()[1] + Math.max(0, room)]);
  }

  app.registerExtension({
    name: EXTENSION,
    nodeCreated(node) {
      if (node.comfyClass === NODE) addStage(node);
    },
  });
}

/** What the canvas would do with the wheel and the middle button, it does over the picture too. */
function forwardToCanvas(element) {
  const forward = (event) => {
    event.preventDefault();
    event.stopPropagation();
    app.canvas.canvas.dispatchEvent(new event.constructor(event.type, event));
  };
  // Vue nodes see to the wheel by themselves.
  element.addEventListener("wheel", (event) => element.closest(".dom-widget") && forward(event), { passive: false });
  element.addEventListener("pointerdown", (event) => event.button === 1 && forward(event));
  element.addEventListener("pointermove", (event) => event.buttons & 4 && forward(event));
  element.addEventListener("pointerup", (event) => event.button === 1 && forward(event));
}

function chain(node, name, then) {
  const before = node[name];
  node[name] = function (...args) {
    const result = before?.apply(this, args);
    then();
    return result;
  };
}

// Two copies of this pack may be installed; the first one serves both.
const ONCE = Symbol.for(EXTENSION);
if (!globalThis[ONCE]) {
  globalThis[ONCE] = true;
  await start();
}
