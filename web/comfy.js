/** Puts the viewer on ComfyUI's node, in LiteGraph and in Vue nodes. */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

/**
 * @typedef {ComfyUI.Node} Node
 * @typedef {import("./node-place.mjs").SubgraphNode} SubgraphNode
 * @typedef {import("./node-place.mjs").Place} Place
 */
/**
 * @typedef {import("./viewer.mjs").Viewer} Viewer
 * @typedef {import("./settings-bar.mjs").SettingsBar} SettingsBar
 * @typedef {import("./types.mjs").View} View
 */
/** @typedef {import("./node-settings.mjs").NodeSettings} NodeSettings @typedef {import("./library-comfy.mjs").LibraryTab} LibraryTab */

/**
 * @typedef {{viewer: Viewer, bar: SettingsBar, source: ReturnType<import("./run-store.mjs").RunStore["source"]>, changed: () => void}} NodeViewer what a node shows
 */

const NODE = "SafelightPreview";
const EXTENSION = "safelight.preview";
const WIDGET = "safelight_stage";
const HIDE_SETTING = "Safelight.HideSamplerPreview";
const VIEW_PROPERTY = "safelight_view"; // node properties are saved in the workflow, not in the prompt
const PLACES_PROPERTY = "safelight_runs";
const OUTER_PROPERTY = "safelight_outer"; // of a subgraph's node: it has a viewer
const NODE_WIDTH_PX = 340;
const WIDGET_MARGIN_PX = 10; // that ComfyUI adds around a widget
const LIST_INTERVAL_MS = 3000;
const NOTICE_MS = 8000;
const [IDLE_MODES, IDLE_OPACITY] = [[2, 4], "0.35"]; // of LiteGraph: a muted node, a bypassed node
const PLACING_INTERVAL_MS = 500; // until a user who has opened a graph of the first Vue nodes sees the viewer
// As on the server, which uses them until a user has saved the settings.
const [DEFAULT_BUDGET_MB, DEFAULT_DEVICE_MB, MAX_MB] = [512, 1024, 1 << 20];

// ComfyUI forbids browsers to cache `.js` files, but not `.mjs` files. After an update they could be old for days.
const MODULES = [
  ...["run-store", "viewer", "node-place", "style", "run-key", "node-settings", "settings-bar", "decoder-list", "known-models", "picture-first", "everywhere", "welcome", "sampler-previews", "far-view", "workflow-actions", "choice-nodes", "live-actions", "search-rank", "moving-canvas"],
  ...["action-menu", "animation-frames", "base-style", "branch", "caption", "change", "chooser", "compare", "download", "drag-out", "elements", "export", "figures", "film-strip", "frame-bar", "fullscreen", "hidden-socket", "hover-thumbnail", "image-cache", "image-loader"],
  ...["image-pane", "input-visibility", "manifest", "messages", "model-source", "navigation", "on-top", "panel", "picture-actions", "progress-line", "promoted-widgets", "run-control", "run-list", "sampler-node", "sanitize", "selection", "server-source", "settings-words", "shortcuts", "status-bar"],
  ...["step-strip", "timers", "toolbar", "truth", "written-files", "zoom"],
  ...["library-actions", "language", "sent-texts", "comfy-language", "drop-on-node", "other-browser"],
];

// Loaded when the user first opens the tab with the library.
const LIBRARY_MODULES = [
  ...["library-comfy", "library", "library-choices", "library-entry", "library-query", "library-source", "library-style", "library-tiles", "library-trash"],
  ...["run-inspector", "undo-message", "virtual-grid"],
];

/**
 * The first ones of `MODULES`, which `start` uses itself.
 *
 * @typedef {[typeof import("./run-store.mjs"), typeof import("./viewer.mjs"), typeof import("./node-place.mjs"),
 *   typeof import("./style.mjs"), typeof import("./run-key.mjs"), typeof import("./node-settings.mjs"),
 *   typeof import("./settings-bar.mjs"), typeof import("./decoder-list.mjs"), typeof import("./known-models.mjs"),
 *   typeof import("./picture-first.mjs"), typeof import("./everywhere.mjs"), typeof import("./welcome.mjs"),
 *   typeof import("./sampler-previews.mjs"), typeof import("./far-view.mjs"), typeof import("./workflow-actions.mjs"),
 *   typeof import("./choice-nodes.mjs"), typeof import("./live-actions.mjs"), typeof import("./search-rank.mjs"),
 *   typeof import("./moving-canvas.mjs")]} FirstModules
 *
 * @typedef {[typeof import("./library-actions.mjs"), typeof import("./language.mjs"), typeof import("./comfy-language.mjs"), typeof import("./drop-on-node.mjs"), typeof import("./other-browser.mjs")]} NamedModules
 */

/** Registers the extension. Its state outlives the nodes: ComfyUI creates all nodes again when the user changes tabs. */
async function start() {
  const addresses = await freshModules(MODULES);
  const [{ RunStore }, { Viewer, DEFAULT_VIEW, SPEEDS }, { EMPTY_WORKFLOW, copyOfWorkflow, nodePlaces, followMove, formerPlaces, giveWorkflowId, holdsGraph, innerPlaces, nodeAt, subgraphNodes, readPastPlaces, withPastPlace }, { MIN_HEIGHT_PX, CHROME_HEIGHT_PX }, { RunKey, KEY_HEADER, sendKey }, { NodeSettings }, { SettingsBar, BAR_HEIGHT_PX }, { DecoderList }, { KnownModels }, { addLayoutStyle }, { Everywhere, EVERYWHERE_LABEL }, { welcome }, { WatchedSamplers, withoutNode }, { FarView }, { workflowActions }, { ChoiceNodes, CHOICE_NODE, CHOICE_EVENT }, { liveActions }, { rankFirst }, { MovingCanvas }] =
    /** @type {FirstModules} */ (await Promise.all(addresses.slice(0, 19).map((address) => import(address))));

  const named = ["library-actions", "language", "comfy-language", "drop-on-node", "other-browser"].map((name) => import(addresses[MODULES.indexOf(name)]));
  const [{ libraryActions }, { t }, { followLanguage }, { giveDropsToNodes }, { OTHER_BROWSER_LABEL, listOtherBrowser }] = /** @type {NamedModules} */ (await Promise.all(named));
  await followLanguage(app.ui.settings, (path) => api.fetchApi(path), () => (library = null)); // ComfyUI creates all nodes again, but not its tabs
  addLayoutStyle(document);
  const key = new RunKey(() => localStorage, () => api.user);
  sendKey(api, key);
  const store = new RunStore((path, method = "GET") => api.fetchApi(path, { method, cache: "no-store", headers: { [KEY_HEADER]: key.get() } }));
  /** @type {Map<Node, NodeViewer>} */
  const viewers = new Map(); // by node, while it is in a graph
  /** @type {Map<SubgraphNode, NodeViewer>} */
  const outerViewers = new Map(); // by node of a subgraph with such a node in it
  /** @type {WeakMap<Node, NodeSettings>} */
  const settingsOf = new WeakMap(); // by node
  const decoders = new DecoderList((path) => api.fetchApi(path, { cache: "no-store" }), () => [...viewers.keys()].forEach(fitInputs));
  const models = new KnownModels(() => localStorage);
  const everywhere = new Everywhere(() => app.extensionManager?.setting, (on) => [...viewers.values(), ...outerViewers.values()].forEach(({ bar }) => bar.setSwitch(on)));
  const watched = new WatchedSamplers();
  const farView = new FarView((isFar) => [...viewers.keys(), ...outerViewers.keys()].forEach((node) => elementOf(node).toggleAttribute("data-far", isFar)));
  const movingCanvas = new MovingCanvas(() => [...viewers.keys(), ...outerViewers.keys()].map(stageOf));
  const choices = new ChoiceNodes(document, (path) => api.apiURL(path), (path, options) => api.fetchApi(path, { ...options, cache: "no-store", headers: { [KEY_HEADER]: key.get() } }));
  /** @type {WeakMap<Node, string>} */
  const newestOf = new WeakMap(); // by node: id of the newest run whose manifest was read
  const defaults = { speed: DEFAULT_VIEW.speed, follow: DEFAULT_VIEW.follow };

  for (const event of ["safelight.run", "safelight.step"]) {
    api.addEventListener(event, ({ detail }) => (store.receive(detail), watched.receive(detail)));
  }
  // ComfyUI registers its own listener later. Its queue and its App mode still show the preview, but no node does.
  api.addEventListener("b_preview_with_metadata", (event) => {
    if (!watched.has(event.detail) || app.extensionManager.setting.get(HIDE_SETTING) === false) return;
    event.stopImmediatePropagation();
    api.dispatchEvent(new CustomEvent(event.type, { detail: withoutNode(event.detail) }));
  });
  // Events are lost while the page is not connected. The first status event says that it is.
  const listAll = () => ([...viewers.keys()].forEach(listRuns), choices.refresh());
  api.addEventListener(CHOICE_EVENT, () => choices.refresh());
  api.addEventListener("status", listAll, { once: true });
  api.addEventListener("reconnected", listAll);
  // Only the viewers of a changed run: each layout of another one would be missed while the user moves the canvas.
  store.onChange((ids) => {
    viewers.forEach(({ source, changed }, node) => source.hasAny(ids) && (rememberPlaces(node), rememberLatents(node), changed()));
    showOnSubgraphs();
    outerViewers.forEach(({ source, changed }) => source.hasAny(ids) && changed());
  });
  api.addEventListener("graphChanged", () => {
    [...viewers.keys()].forEach(fitInputs); // not when a picture arrives: nothing may jump
    [...outerViewers.keys()].forEach(dim);
    showOnSubgraphs();
  });

  // A prompt whose samplers are all in ComfyUI's cache samples nothing: its run may be of another workflow.
  /** @type {Map<string, {nodes: string[], at: number}>} */
  const cachedNodes = new Map(); // by prompt, with the time
  api.addEventListener("execution_cached", ({ detail }) => cachedNodes.set(detail?.prompt_id, { nodes: (detail?.nodes ?? []).map(String), at: Date.now() }));
  api.addEventListener("execution_success", ({ detail }) => {
    const { nodes, at } = cachedNodes.get(detail?.prompt_id) ?? { nodes: [], at: 0 };
    cachedNodes.clear();
    viewers.forEach(({ viewer }, node) => {
      const place = nodePlaces(node).find((place) => nodes.includes(place.node));
      // With another seed only the node itself is in the cache, and its run has just been heard.
      if (place && !store.of([place]).some(({ heard }) => heard >= at)) showCached(node, viewer, place, detail.prompt_id);
    });
  });

  /** @param {Node} node @param {Viewer} viewer @param {Place} place @param {string} prompt its id */
  async function showCached(node, viewer, place, prompt) {
    const run = await store.cached(place, prompt);
    if (!viewers.has(node)) return;
    if (!run) return viewer.setIdle(t("Nothing was sampled: ComfyUI has the result in its cache. To see the steps, change the seed."));
    const past = readPastPlaces(node.properties[PLACES_PROPERTY]);
    const former = { workflow: run.workflow ?? EMPTY_WORKFLOW, node: place.node };
    if (former.workflow !== place.workflow) node.properties[PLACES_PROPERTY] = withPastPlace(past, former, run.started);
    await listRuns(node);
    viewer.select(run.id);
  }

  // Only the tab that queued a run gets its events. Other tabs with the same workflow list runs while the queue is busy.
  let queued = 0;
  api.addEventListener("status", ({ detail }) => {
    const before = queued;
    queued = detail?.exec_info?.queue_remaining ?? 0;
    if (queued < before) listAll();
  });
  setInterval(() => {
    const getsEvents = store.runs().some(({ heard }) => Date.now() - heard < LIST_INTERVAL_MS); // one prompt runs at a time
    if (!queued || document.hidden || getsEvents) return;
    [...viewers.keys()].filter((node) => elementOf(node).offsetWidth).forEach(listRuns);
  }, LIST_INTERVAL_MS);

  // The first Vue nodes (frontend 1.27) omit DOM widgets, so the viewer is put where its widget would be. Newer ones do not
  // replace the viewer of a node that Undo creates again.
  setInterval(() => {
    if (!isVue()) return;
    for (const node of viewers.keys()) {
      const element = elementOf(node);
      if (element.isConnected || node.graph !== app.canvas.graph) continue;
      const widgets = document.querySelector(`[data-node-id="${node.id}"] .lg-node-widgets`);
      /** @type {HTMLElement | null | undefined} */
      const former = widgets?.querySelector(`[data-safelight="${WIDGET}"]`); // of the node before Undo, which Vue nodes keep
      // In the first Vue nodes nothing else gives it a size.
      element.style.minWidth = former?.style.minWidth ?? `${NODE_WIDTH_PX - 2 * WIDGET_MARGIN_PX}px`;
      element.style.minHeight = former?.style.minHeight ?? `${NODE_WIDTH_PX + CHROME_HEIGHT_PX}px`;
      if (former) former.replaceWith(element);
      else widgets?.append(element);
    }
  }, PLACING_INTERVAL_MS);

  /** The widget with the viewer. @param {Node} node that has one */
  function stageOf(node) {
    return /** @type {ComfyUI.DomWidget} */ (node.widgets?.find(({ name }) => name === WIDGET));
  }

  /** @param {Node} node */
  function elementOf(node) {
    return stageOf(node).element;
  }

  /** @param {(() => void) | null} toggleFold */
  function createBar(toggleFold) {
    const bar = new SettingsBar(document, { toggleFold, switchLabel: t(EVERYWHERE_LABEL), toggleSwitch: () => everywhere.toggle() });
    bar.setSwitch(everywhere.on);
    return bar;
  }

  /** The current and the former places of a node: all that may have runs of it. @param {Node} node */
  function allPlaces(node) {
    const current = nodePlaces(node);
    return [...current, ...formerPlaces(readPastPlaces(node.properties[PLACES_PROPERTY]), current)];
  }

  /** Until it is queued, a workflow without an id has the empty one, which it shares with all others. @param {Place} place */
  const hasOwnId = ({ workflow }) => workflow !== EMPTY_WORKFLOW;

  /** @param {Node} node */
  function listRuns(node) {
    return Promise.all(allPlaces(node).filter(hasOwnId).map((place) => store.list(place)));
  }

  /** @type {import("./library-actions.mjs").Desk} */
  const desk = {
    act: async (...change) => (await libraryTab()).act(...change),
    undo: async (token) => (await libraryTab()).undo(token),
    ask: (title, before) => app.extensionManager.dialog.prompt({ title, message: t("It is stored with the run. An empty one removes it."), defaultValue: before }),
    forget: (id) => store.forget(id),
    refresh: listAll,
    place: t("the Safelight tab"),
  };

  /** Shows a message that belongs to no viewer. @param {string} detail */
  function notify(detail) {
    app.extensionManager.toast?.add({ severity: "info", summary: "Safelight", detail, life: NOTICE_MS });
  }

  /** Lists the runs of another browser: those of the nodes, and those in the library. */
  function useOtherBrowser() {
    return listOtherBrowser({
      ask: (title, message) => app.extensionManager.dialog.prompt({ title, message, defaultValue: "" }),
      keep(other) {
        key.set(other);
        listAll();
        library?.then((tab) => tab.poll());
      },
      notify,
    });
  }

  /** Stores the node's places in the node: "Save as" creates it again in a workflow with another id. @param {Node} node */
  function rememberPlaces(node) {
    for (const place of nodePlaces(node).filter(hasOwnId)) {
      const newest = store.of([place]).find(({ started }) => Number.isFinite(started));
      const past = readPastPlaces(node.properties[PLACES_PROPERTY]);
      const updated = newest ? withPastPlace(past, place, newest.started) : past;
      if (updated === past) continue;
      node.properties[PLACES_PROPERTY] = updated;
      if (!past.length && node.graph?.rootGraph.id === EMPTY_WORKFLOW) saveDraft(); // after a reload it has another id
    }
  }

  /** @type {import("./workflow-actions.mjs").GraphHost} */
  const graphHost = {
    createNode: (type) => window.LiteGraph?.createNode(type) ?? null,
    change(make) {
      saveDraft(); // what the user has changed before is another step of undo
      app.canvas.emitBeforeChange?.();
      try {
        const nodes = make();
        if (nodes[0]?.graph?.id === app.canvas.graph?.id) app.canvas.selectItems?.(nodes);
      } finally {
        app.canvas.emitAfterChange?.();
        saveDraft();
      }
    },
    workflowOf: (id) => store.workflow(id),
    open({ workflow, prompt }, name, started) {
      return workflow ? app.loadGraphData(copyOfWorkflow(workflow, NODE, PLACES_PROPERTY, started), true, true, name) : app.loadApiJson(prompt, name);
    },
  };

  /**
   * The Preview Steps that watched a run: the node of the viewer, or one in its subgraph.
   *
   * @param {Node} node @param {{node?: string}} run
   */
  function watcherOf(node, run) {
    const watcher = node.comfyClass === NODE ? node : nodeAt(node.graph?.rootGraph, run.node ?? "");
    return watcher?.comfyClass === NODE ? watcher : null;
  }

  /**
   * Puts a viewer on a node, as its last widget.
   *
   * @param {Node} node @param {() => Place[]} placesOf returns the places whose runs it shows @param {SettingsBar} bar below it
   * @returns {NodeViewer}
   */
  function createViewer(node, placesOf, bar) {
    let changed = () => {};
    // Only nodes in a graph get changes: a listener of the store would keep a removed node in memory.
    /** @param {() => void} listener */
    const onChange = (listener) => {
      changed = listener;
      return () => (changed = () => {});
    };
    const source = { ...store.source(placesOf, (path) => api.apiURL(path)), onChange };
    const viewer = new Viewer(document, source, {
      view: defaults,
      onView: (view) => (node.properties[VIEW_PROPERTY] = { ...viewOf(node), ...view }),
      wheelNeedsFocus: true,
      footer: bar.element,
      actions: [workflowActions((run) => watcherOf(node, run), graphHost), everywhere.action, libraryActions(desk), liveActions(window, (path) => api.apiURL(path), () => key.get())],
    });
    const { element } = viewer;
    const widget = node.addDOMWidget(WIDGET, WIDGET, element, {
      serialize: false, // not in the prompt
      hideOnZoom: false,
      getMinHeight: () => MIN_HEIGHT_PX + 2 * WIDGET_MARGIN_PX,
    });
    widget.serialize = false; // not in the workflow
    widget.beforeQueued = () => giveWorkflowId(node) && saveDraft();
    widget.label = t("Steps"); // shown in App mode
    widget.options.hideInPanel = true; // which would show it as an empty row
    // The properties panel stores its own width in each widget, and the canvas would draw the viewer with it.
    Object.defineProperty(widget, "width", { configurable: true, get: () => undefined, set: () => {} });
    // *Edit Subgraph Widgets* lists the enabled widgets of nodes that are not on the canvas. This one cannot be promoted.
    Object.defineProperty(widget, "computedDisabled", { configurable: true, get: () => node.graph?.id !== app.canvas.graph?.id, set: () => {} });
    // The frontend asks for each frame, and would have the browser compute all styles of the page.
    widget.computeLayoutSize = () => ({ minHeight: MIN_HEIGHT_PX + 2 * WIDGET_MARGIN_PX, maxHeight: undefined, minWidth: 0 });
    element.style.setProperty("--comfy-widget-min-height", String(MIN_HEIGHT_PX));
    element.dataset.safelight = WIDGET;
    element.dataset.captureWheel = "true"; // Vue nodes leave the wheel to it while it has the focus
    forwardToCanvas(element);
    element.toggleAttribute("data-far", farView.isFar);
    return { viewer, bar, source, changed: () => changed() };
  }

  /** The user's preferences for a node, which it holds. @param {Node} node @returns {Partial<View>} */
  function viewOf(node) {
    return node.properties[VIEW_PROPERTY] ?? {};
  }

  /** @param {Node} node */
  function addViewer(node) {
    const bar = createBar(() => settingsOf.get(node)?.toggleFold());
    const created = createViewer(node, () => allPlaces(node), bar);
    const { viewer } = created;
    callAfter(node, "onAdded", () => {
      viewers.set(node, created);
      // Once the graph is complete, and with it the node's place.
      setTimeout(() => {
        if (!node.graph) return; // removed in the same moment
        const past = readPastPlaces(node.properties[PLACES_PROPERTY]);
        if (past.length) node.properties[PLACES_PROPERTY] = followMove(past, node);
        viewer.refresh();
        listRuns(node);
        fitInputs(node);
        showOnSubgraphs();
      });
    });
    callAfter(node, "onRemoved", () => viewers.delete(node));
    callAfter(node, "onConfigure", (saved) => {
      viewer.setView(viewOf(node));
      const freed = settingsOf.get(node)?.configure(saved);
      const [width, height] = node.size;
      if (freed) node.setSize([width, Math.min(height, Math.max(height - freed, roomyHeight(node, width)))]);
    });
    for (const input of node.widgets ?? []) callAfter(input, "callback", () => fitInputs(node));
    // The sockets change only when the frontend has finished its work on the link.
    callAfter(node, "onConnectionsChange", () => (settingsOf.get(node)?.update(), setTimeout(() => viewers.has(node) && fitInputs(node))));
    settingsOf.set(node, new NodeSettings(node, stageOf(node), bar, decoders, models, isVue));
    addRoom(node); // a loaded node gets its saved size after this
  }

  /** Gives a node room for a square picture. @param {Node} node */
  function addRoom(node) {
    const width = Math.max(node.computeSize()[0], NODE_WIDTH_PX);
    node.setSize([width, roomyHeight(node, width)]);
  }

  /** The height of a node with room for a square picture. @param {Node} node @param {number} width */
  function roomyHeight(node, width) {
    const extra = settingsOf.get(node)?.extraHeight ?? 0;
    const room = width - 2 * WIDGET_MARGIN_PX + CHROME_HEIGHT_PX + BAR_HEIGHT_PX - MIN_HEIGHT_PX + extra;
    return node.computeSize()[1] + Math.max(0, room);
  }

  /** Puts a viewer on each subgraph's node in whose subgraph a run began, and on those that had one when they were saved. */
  function showOnSubgraphs() {
    for (const root of new Set([...viewers.keys()].map(({ graph }) => graph?.rootGraph))) {
      for (const holder of subgraphNodes(root)) {
        if (outerViewers.has(holder)) continue;
        const places = innerPlaces(holder, NODE);
        if (places.length && (holder.properties[OUTER_PROPERTY] || store.of(places).length)) addOuterViewer(holder);
      }
    }
  }

  /** @param {SubgraphNode} holder */
  function addOuterViewer(holder) {
    const inner = () => [...viewers.keys()].filter((node) => node.graph && holdsGraph(holder, node.graph));
    const created = createViewer(holder, () => [...innerPlaces(holder, NODE), ...inner().flatMap((node) => allPlaces(node).filter((place) => "until" in place))], createBar(null));
    outerViewers.set(holder, created);
    callAfter(holder, "onRemoved", () => outerViewers.delete(holder));
    created.viewer.setView(viewOf(holder));
    if (!holder.properties[OUTER_PROPERTY]) addRoom(holder); // else its saved size has it
    holder.properties[OUTER_PROPERTY] = true;
    dim(holder);
    created.viewer.refresh();
  }

  /** Dims the viewer of a node that is muted or bypassed: its picture is not of this workflow as it is now. @param {Node} node */
  function dim(node) {
    elementOf(node).style.opacity = IDLE_MODES.includes(node.mode) ? IDLE_OPACITY : "";
  }

  /** Stores in the node what its newest run has sampled. @param {Node} node */
  function rememberLatents(node) {
    const run = store.of(nodePlaces(node)).find(({ manifest, state }) => manifest && state !== "running");
    if (!run?.manifest || run.id === newestOf.get(node)) return;
    newestOf.set(node, run.id);
    settingsOf.get(node)?.remember(run.manifest);
  }

  /** @param {Node} node */
  function fitInputs(node) {
    dim(node);
    settingsOf.get(node)?.fit();
  }

  /** Applies a changed setting to every node that has no value of its own. @param {Partial<View>} view */
  function applySetting(view) {
    Object.assign(defaults, view);
    for (const [node, { viewer }] of [...viewers, ...outerViewers]) viewer.setView({ ...view, ...viewOf(node) });
  }

  // The library of all runs, as a tab of the sidebar.
  /** @type {Promise<LibraryTab> | null} */
  let library = null;

  function addLibrary() {
    /** @param {HTMLElement} element */
    const render = async (element) => (await libraryTab()).show(element);
    const tab = { id: "safelight", icon: "pi pi-images", title: "Safelight", tooltip: t("Safelight: all runs"), type: "custom", render };
    app.extensionManager.registerSidebarTab?.(tab);
  }

  function libraryTab() {
    library ??= loadLibrary();
    return library;
  }

  async function loadLibrary() {
    const [address] = await freshModules(LIBRARY_MODULES);
    const { LibraryTab } = /** @type {typeof import("./library-comfy.mjs")} */ (await import(address));
    const tab = new LibraryTab({
      document,
      request: (path, { headers, ...options } = {}) => api.fetchApi(path, { cache: "no-store", ...options, headers: { ...headers, [KEY_HEADER]: key.get() } }),
      address: (path) => api.apiURL(path),
      openFile: (file) => app.handleFile(file),
      onDeleted: (id) => id && store.forget(id),
      onRestored: listAll,
    });
    for (const event of ["safelight.run", "reconnected"]) api.addEventListener(event, () => tab.poll());
    return tab;
  }

  app.registerExtension({
    name: EXTENSION,
    settings: [
      {
        id: "Safelight.Viewer.Speed",
        category: ["Safelight", "Viewer", "Playback speed"],
        name: "Playback speed",
        tooltip: "Steps per second when a run is played. Each node can have its own speed.",
        type: "combo",
        options: SPEEDS.map((speed) => ({ text: t("{count} per second", { count: speed }), value: speed })),
        defaultValue: DEFAULT_VIEW.speed,
        onChange: (speed) => Number(speed) && applySetting({ speed: Number(speed) }),
      },
      {
        id: "Safelight.Viewer.Follow",
        category: ["Safelight", "Viewer", "Follow live"],
        name: "Follow live",
        tooltip: "When a run begins, the node shows it instead of the selected run. A locked step (L) stays.",
        type: "boolean",
        defaultValue: DEFAULT_VIEW.follow,
        onChange: (follow) => typeof follow === "boolean" && applySetting({ follow }),
      },
      {
        id: "Safelight.HideSamplerPreview",
        category: ["Safelight", "Viewer", "Sampler's own preview"],
        name: "Hide the sampler's own preview while Preview Steps shows its steps",
        tooltip: "The sampler's node then shows no second picture of the same steps. Only what this page draws changes; the run and other programs do not.",
        type: "boolean",
        defaultValue: true,
      },
      {
        id: "Safelight.Welcomed",
        category: ["Safelight", "Viewer", "Welcome"],
        name: "The welcome was shown",
        tooltip: "After the installation, Safelight says once what there is.",
        type: "hidden",
        defaultValue: false,
      },
      // The server reads these from the settings file of ComfyUI.
      {
        id: "Safelight.Everywhere",
        category: ["Safelight", "Server", "Everywhere"],
        name: "Everywhere: Safelight previews on all samplers",
        tooltip: "Safelight decodes ComfyUI's own preview of every sampler, without a node, if it has a decoder for the latents. Applies to prompts that are queued after the change.",
        type: "boolean",
        defaultValue: false,
        onChange: (on) => everywhere.changed(on),
      },
      {
        id: "Safelight.Learn",
        category: ["Safelight", "Server", "Learn"],
        name: "Learn from VAE decodes",
        tooltip: "Each VAE decode improves a preview decoder for its VAE, for any model. Decodes stay as they are. Pictures at twice the latent size are saved in models/safelight/learned, unencrypted. Applies to prompts that are queued after the change; no effect with --multi-user.",
        type: "boolean",
        defaultValue: false,
      },
      {
        id: "Safelight.LearnIdle",
        category: ["Safelight", "Server", "Learn while idle"],
        name: "Train a preview net while nothing is queued",
        tooltip: "With Learn from VAE decodes: from 16 decodes on, half of the cores train a small net when nothing was queued for 30 seconds. A prompt stops it immediately. Never on battery.",
        type: "boolean",
        defaultValue: true,
      },
      {
        id: "Safelight.LearnMB",
        category: ["Safelight", "Server", "Space for learning"],
        name: "Disk space for pictures to learn from (MB)",
        tooltip: "Limit for the saved pictures of each latent space and VAE. When it is reached, Safelight deletes the oldest ones. 0: no pictures for a net are saved.",
        type: "number",
        attrs: { min: 0, max: 1048576, step: 1 },
        defaultValue: 64,
      },
      {
        id: "Safelight.Decoder",
        category: ["Safelight", "Server", "Decoder"],
        name: "Default decoder (used by auto)",
        tooltip: "A kind, such as tiny, or a decoder by name, for the latent spaces that it supports; auto: the best available decoder. A node can choose another one.",
        type: "combo",
        options: allDecoders,
        defaultValue: "auto",
      },
      {
        id: "Safelight.BudgetMB",
        category: ["Safelight", "Server", "Space for runs"],
        name: "Disk space for recorded runs (MB)",
        tooltip: "Limit for the runs in ComfyUI's temporary folder. When it is reached, Safelight deletes the oldest runs. Runs with a star may use half of it, and stay. Files that a node wrote with write_intermediates stay.",
        type: "number",
        attrs: { min: 0, max: MAX_MB, step: 1 },
        defaultValue: DEFAULT_BUDGET_MB,
      },
      {
        id: "Safelight.Remote",
        category: ["Safelight", "Server", "Store"],
        name: "Copy saved runs to a store (address)",
        tooltip: "Each run that is written into the output folder is copied there too, while it goes on: s3://bucket/runs, or any address of fsspec, without a password. Its packages must be installed: pip install fsspec s3fs. Empty: no copy. No effect with --multi-user.",
        type: "text",
        defaultValue: "",
      },
      {
        id: "Safelight.DeviceMB",
        category: ["Safelight", "Server", "Device memory"],
        name: "Device memory for previews (MB)",
        tooltip: "Limit for the GPU memory that the previews of a run may use. If a decoder needs more, Safelight uses a lighter one and adds a note to the run, which says how much it needs.",
        type: "number",
        attrs: { min: 0, max: MAX_MB, step: 1 },
        defaultValue: DEFAULT_DEVICE_MB,
      },
    ],
    commands: [{ id: "Safelight.OtherBrowser", icon: "pi pi-images", label: t(OTHER_BROWSER_LABEL), function: useOtherBrowser }],
    menuCommands: [{ path: ["Safelight"], commands: ["Safelight.OtherBrowser"] }],
    setup() {
      farView.follow(app.canvas.ds);
      movingCanvas.follow(app.canvas);
      const { setting, toast } = app.extensionManager;
      if (toast) welcome(setting, (message) => toast.add(message));
      giveDropsToNodes(document, app.canvas, notify);
      addLibrary();
    },
    beforeRegisterNodeDef(_, definition) {
      if (definition.name === NODE) rankFirst(definition);
    },
    refreshComboInNodes() {
      decoders.reset();
      [...viewers.keys()].forEach(fitInputs);
    },
    nodeCreated(node) {
      if (node.comfyClass === NODE) addViewer(node);
      if (node.comfyClass === CHOICE_NODE) choices.add(node);
    },
  });
}

/** The addresses of modules whose newest version the browser has. @param {string[]} names */
async function freshModules(names) {
  const addresses = names.map((name) => new URL(`./${name}.mjs`, import.meta.url).href);
  await Promise.all(addresses.map((address) => fetch(address, { cache: "no-cache" })));
  return addresses;
}

/** The decoders that the server offers for the node, and the selected one, which may no longer exist. @param {string} [selected] */
function allDecoders(selected) {
  const [type, options] = window.LiteGraph?.registered_node_types[NODE]?.nodeData?.input?.required?.decoder ?? [];
  const names = options?.options ?? (Array.isArray(type) ? type : ["auto"]);
  return [...new Set([...names, ...(selected ? [selected] : [])])];
}

/**
 * Forwards the wheel and the middle button from the viewer to the canvas, unless the viewer has used the event.
 *
 * @param {HTMLElement} element
 */
function forwardToCanvas(element) {
  /** @param {MouseEvent} event */
  const forward = (event) => {
    event.preventDefault();
    event.stopPropagation();
    const EventType = /** @type {typeof MouseEvent} */ (event.constructor);
    app.canvas.canvas.dispatchEvent(new EventType(event.type, event));
  };
  // Vue nodes forward the wheel themselves.
  element.addEventListener("wheel", (event) => element.closest(".dom-widget") && forward(event), { passive: false });
  element.addEventListener("pointerdown", (event) => event.button === 1 && forward(event));
  element.addEventListener("pointermove", (event) => event.buttons & 4 && forward(event));
  element.addEventListener("pointerup", (event) => event.button === 1 && forward(event));
  // Without this, a drag in the viewer would move the first Vue nodes.
  for (const name of ["pointerdown", "pointermove", "pointerup"]) {
    element.addEventListener(name, (event) => element.closest("[data-node-id]") && event.stopPropagation());
  }
}

/** Whether ComfyUI draws nodes with Vue. */
function isVue() {
  return Boolean(window.LiteGraph?.vueNodesMode);
}

/** Lets the frontend see that the workflow has changed, so that the change survives a reload of the page. */
function saveDraft() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}

/**
 * Calls `then` after each call of a method.
 *
 * @param {Record<string, any>} object of LiteGraph, whose methods have arguments of any type
 * @param {string} name @param {(...args: any[]) => void} then
 */
function callAfter(object, name, then) {
  const method = object[name];
  object[name] = /** @param {unknown[]} args */ function (...args) {
    const result = method?.apply(this, args);
    then(...args);
    return result;
  };
}

// If two copies of this package are installed, the first one serves both.
const STARTED = Symbol.for(EXTENSION);
if (!(STARTED in globalThis)) {
  Object.assign(globalThis, { [STARTED]: true });
  await start();
}
