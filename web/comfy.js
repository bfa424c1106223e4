/** Puts the viewer on ComfyUI's node, in LiteGraph as in Vue nodes. */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "SafelightPreview";
const EXTENSION = "safelight.preview";
const WIDGET = "safelight_stage";
// In the workflow, not in the prompt.
const PROPERTY = "safelight_view";
const STAYS = "safelight_runs";
const NAMELESS = "00000000-0000-0000-0000-000000000000";
const WIDTH_PX = 340;
const VUE_ROW_PX = 6; // that an input is higher in Vue nodes
const MARGIN_PX = 10; // that the host leaves around a widget
const ASK_MS = 3000;

// The host forbids keeping `.js`, but not `.mjs`: after an update a browser may hold on to old ones for days.
const MODULES = [
  ...["run-store", "viewer", "node-place", "style", "input-visibility"],
  ...["caption", "compare", "elements", "frame-bar", "animation-frames", "fullscreen", "hover-thumbnail", "shortcuts", "status-bar", "manifest", "panel", "image-cache", "image-loader"],
  ...["run-list", "selection", "image-pane", "step-strip", "export", "messages", "timers", "toolbar", "navigation", "zoom"],
];

/** What all nodes of the page share. It outlives them: switching tabs of workflows makes all nodes anew. */
async function start() {
  const parts = MODULES.map((name) => new URL(`./${name}.mjs`, import.meta.url));
  await Promise.all(parts.map((part) => fetch(part, { cache: "no-cache" })));
  const [{ Store }, { Viewer, VIEW, SPEEDS }, { places, formerPlaces, readStays, withStay }, { MIN_HEIGHT_PX, CHROME_HEIGHT_PX }, { idleInputs }] =
    await Promise.all(parts.slice(0, 5).map((part) => import(part)));

  const store = new Store((path) => api.fetchApi(path, { cache: "no-store" }));
  const viewers = new Map(); // by node, while it is in a graph
  const defaults = { speed: VIEW.speed, follow: VIEW.follow };

  for (const event of ["safelight.run", "safelight.step"]) {
    api.addEventListener(event, ({ detail }) => store.tell(detail));
  }
  // What the server told while nobody was connected is lost; the first status says that somebody is.
  const askAll = () => [...viewers.keys()].forEach(ask);
  api.addEventListener("status", askAll, { once: true });
  api.addEventListener("reconnected", askAll);
  store.onChange(() => viewers.forEach(({ changed }, node) => (remember(node), changed())));

  // Events go to the client that queued the run. Others with the same workflow ask while something is being done.
  let queued = 0;
  api.addEventListener("status", ({ detail }) => {
    const before = queued;
    queued = detail?.exec_info?.queue_remaining ?? 0;
    if (queued < before) askAll();
  });
  setInterval(() => {
    if (!queued || document.hidden) return;
    const unheard = (node) => store.of(places(node)).every(({ heard }) => Date.now() - heard > ASK_MS);
    [...viewers.keys()].filter((node) => stageOf(node).offsetWidth && unheard(node)).forEach(ask);
  }, ASK_MS);

  // The first Vue nodes (frontend 1.27) leave DOM widgets out; ours goes where it would have been.
  setInterval(() => {
    if (!window.LiteGraph?.vueNodesMode) return;
    for (const node of viewers.keys()) {
      const element = stageOf(node);
      if (element.isConnected || node.graph !== app.canvas.graph) continue;
      element.style.minHeight = `${WIDTH_PX + CHROME_HEIGHT_PX}px`; // there it has no height but its own
      document.querySelector(`[data-node-id="${node.id}"] .lg-node-widgets`)?.append(element);
    }
  }, 500);

  function stageOf(node) {
    return node.widgets.find(({ name }) => name === WIDGET).element;
  }

  /** Where the runs of a node are to be found. */
  function haunts(node) {
    const now = places(node);
    return [...now, ...formerPlaces(readStays(node.properties[STAYS]), now)];
  }

  /** Workflows without an id share the empty one: what the server has of it may be somebody else's. */
  const hasName = ({ workflow }) => workflow !== NAMELESS;

  function ask(node) {
    haunts(node).filter(hasName).forEach((place) => store.list(place));
  }

  /** A workflow that is saved under another name is made anew, under another id: the node brings along where it was. */
  function remember(node) {
    for (const place of places(node).filter(hasName)) {
      const newest = store.of([place]).find(({ started }) => Number.isFinite(started));
      const stays = readStays(node.properties[STAYS]);
      const more = newest ? withStay(stays, place, newest.started) : stays;
      if (more !== stays) node.properties[STAYS] = more;
    }
  }

  function addViewer(node) {
    let changed = () => {};
    // A node that was removed must not be held by the store: only those in a graph hear of changes.
    const onChange = (listener) => {
      changed = listener;
      return () => (changed = () => {});
    };
    const source = { ...store.source(() => haunts(node), (path) => api.apiURL(path)), onChange };
    const viewer = new Viewer(document, source, {
      view: defaults,
      onView: (view) => (node.properties[PROPERTY] = { ...node.properties[PROPERTY], ...view }),
      wheelNeedsFocus: true,
    });
    const { element } = viewer;
    const widget = node.addDOMWidget(WIDGET, WIDGET, element, {
      serialize: false, // not in the prompt
      hideOnZoom: false,
      getMinHeight: () => MIN_HEIGHT_PX + 2 * MARGIN_PX,
    });
    widget.serialize = false; // not in the workflow
    widget.label = "Steps"; // where App mode shows it
    element.style.setProperty("--comfy-widget-min-height", MIN_HEIGHT_PX);
    element.dataset.captureWheel = "true"; // while it has the focus, say Vue nodes
    forwardToCanvas(element);

    chain(node, "onAdded", () => {
      viewers.set(node, { viewer, changed: () => changed() });
      setTimeout(() => (viewer.look(), ask(node))); // when the graph around it is whole, and its place in it known
    });
    chain(node, "onRemoved", () => viewers.delete(node));
    chain(node, "onConfigure", () => {
      viewer.prefer(node.properties[PROPERTY] ?? {});
      fold(node);
    });
    for (const input of node.widgets) {
      chain(input, "callback", () => {
        const before = node.computeSize()[1];
        fold(node);
        node.setSize([node.size[0], node.size[1] + node.computeSize()[1] - before]); // the viewer keeps its own
      });
    }
    chain(node, "onConnectionsChange", () => fold(node));
    fold(node);
    // A new node has room for a square picture; one that is loaded is given its own size after this.
    const width = Math.max(node.computeSize()[0], WIDTH_PX);
    const taller = window.LiteGraph?.vueNodesMode ? VUE_ROW_PX * node.widgets.filter(({ hidden }) => !hidden).length : 0;
    const room = width - 2 * MARGIN_PX + CHROME_HEIGHT_PX - MIN_HEIGHT_PX + taller;
    node.setSize([width, node.computeSize()[1] + Math.max(0, room)]);
  }

  /** Hides the inputs that do nothing as things stand, but none that a link leads to. */
  function fold(node) {
    if (!node.getLayoutWidgets) return; // older hosts (frontend 1.27) leave a hole where an input was, or never show it again
    const isFed = (name) => node.inputs?.some(({ widget, link }) => widget?.name === name && link != null);
    const valueOf = (name) => (isFed(name) ? undefined : node.widgets.find((one) => one.name === name)?.value);
    const idle = idleInputs(valueOf);
    for (const one of node.widgets) one.hidden = one.options.hidden = idle.has(one.name) && !isFed(one.name);
  }

  /** A setting was changed: it is what every node does that was not told otherwise. */
  function prefer(view) {
    Object.assign(defaults, view);
    viewers.forEach(({ viewer }, node) => viewer.prefer({ ...view, ...node.properties[PROPERTY] }));
  }

  app.registerExtension({
    name: EXTENSION,
    settings: [
      {
        id: "Safelight.Viewer.Speed",
        category: ["Safelight", "Viewer", "Playback speed"],
        name: "Playback speed",
        tooltip: "Steps a second when the steps of a run are played. Each node may have its own.",
        type: "combo",
        options: SPEEDS.map((speed) => ({ text: `${speed} a second`, value: speed })),
        defaultValue: VIEW.speed,
        onChange: (speed) => Number(speed) && prefer({ speed: Number(speed) }),
      },
      {
        id: "Safelight.Viewer.Follow",
        category: ["Safelight", "Viewer", "Follow live"],
        name: "Follow live",
        tooltip: "A run that begins is shown, whatever was looked at before. A node that is locked (L) stays where it is.",
        type: "boolean",
        defaultValue: VIEW.follow,
        onChange: (follow) => typeof follow === "boolean" && prefer({ follow }),
      },
      // The server reads these where ComfyUI saves them.
      { id: "Safelight.Everywhere", category: ["Safelight", "Server", "Everywhere"], name: "Previews of all samplers by Safelight", tooltip: "Every sampler shows its ordinary preview as Safelight decodes it, without a node, where Safelight has a decoder for its latents. From the next prompt on that is queued.", type: "boolean", defaultValue: false },
      {
        id: "Safelight.Decoder",
        category: ["Safelight", "Server", "Decoder"],
        name: "Default decoder (what auto takes)",
        tooltip: "A kind, such as tiny, or a decoder by name, for the latent spaces that it is there for; auto: the best at hand. Another one for one node is chosen there.",
        type: "combo",
        options: decoders,
        defaultValue: "auto",
      },
      {
        id: "Safelight.BudgetMB",
        category: ["Safelight", "Server", "Space for runs"],
        name: "Disk space for runs to look back at (MB)",
        tooltip: "In ComfyUI's temporary folder. When it is used up, the oldest runs go. What is written to disk on request stays.",
        type: "number",
        attrs: { min: 0, max: 1048576, step: 1 },
        defaultValue: 512,
      },
      {
        id: "Safelight.DeviceMB",
        category: ["Safelight", "Server", "Device memory"],
        name: "Device memory that previews may take (MB)",
        tooltip: "Of the memory of a GPU, for each run. A decoder that would take more gives way to a lighter one, and the run says so. TAESD takes about 800 MB for 1024 x 1024 pixels, Safelight's own less than 60.",
        type: "number",
        attrs: { min: 0, max: 1048576, step: 1 },
        defaultValue: 1024,
      },
    ],
    nodeCreated(node) {
      if (node.comfyClass === NODE) addViewer(node);
    },
  });
}

/** The decoders that the server has told of, and the one that was chosen, should it be gone. */
function decoders(chosen) {
  const [listed, more] = window.LiteGraph?.registered_node_types[NODE]?.nodeData?.input?.required?.decoder ?? [];
  const names = more?.options ?? (Array.isArray(listed) ? listed : ["auto"]);
  return [...new Set([...names, ...(chosen ? [chosen] : [])])];
}

/** What the canvas would do with the wheel and the middle button, it does over the viewer too, unless that took it. */
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
  // The first Vue nodes would be dragged by what is dragged in the viewer.
  for (const name of ["pointerdown", "pointermove", "pointerup"]) {
    element.addEventListener(name, (event) => element.closest("[data-node-id]") && event.stopPropagation());
  }
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
