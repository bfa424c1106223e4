/** Shows the steps of runs in one element, from any source of runs. */

import { AnimationFrames } from "./animation-frames.mjs";
import { activeElementAround, create, targetOf, windowOf } from "./elements.mjs";
import { ImageExport } from "./export.mjs";
import { ImageCache, loadImage } from "./image-cache.mjs";
import { ImageLoader } from "./image-loader.mjs";
import { t, textDirection } from "./language.mjs";
import { frameCount } from "./manifest.mjs";
import { Panel } from "./panel.mjs";
import { pictureActions } from "./picture-actions.mjs";
import { ViewSelection } from "./selection.mjs";
import { commandOf } from "./shortcuts.mjs";
import { STYLE } from "./style.mjs";
import { Timers } from "./timers.mjs";
import { copyText, writtenActions } from "./written-files.mjs";

/** @typedef {import("./types.mjs").View} View @typedef {import("./types.mjs").Run} Run */
/** @typedef {import("./selection.mjs").PictureSet} PictureSet @typedef {import("./image-cache.mjs").Picture} Picture */
/** @typedef {(navigation: import("./navigation.mjs").Navigation, manifest: import("./types.mjs").Manifest | null) => unknown} Change */

/** @type {View} */
export const DEFAULT_VIEW = { speed: 8, smooth: true, follow: true, compare: "wipe", lock: "step", latents: "denoised" };
export const SPEEDS = [1, 2, 4, 8, 16, 24];

const DEFAULT_FPS = 16;
const SILENCE_CHECK_MS = 10_000;
const SCROLLING = ".keys, .figures, .differences"; // parts over the picture that scroll themselves

/**
 * Its modules import each other with static, named, relative imports, so that a page can contain them all. A page can set
 * the colors `--safelight-ground`, `-text`, `-quiet`, `-lamp` and `-ring`; the defaults are ComfyUI's variables.
 */
export class Viewer {
  #document;
  #source;
  #options;
  #view;
  #selection;
  #navigation; // of the selection
  #images;
  /** @type {ImageLoader<PictureSet>} */ #loader;
  #panel;
  #export;
  #visible = false;
  /** @type {string | null} */ #reported = null; // id of the run that `options.onRun` was last called with
  /** @type {Map<string, string>} */ #asked = new Map(); // by id of the run: the state at which its manifest was requested, until the answer is there
  #timers = new Timers();

  /** @type {import("./types.mjs").Commands} */
  #commands = {
    move: (count) => this.#move((navigation, manifest) => navigation.moveBy(count, manifest)),
    goTo: (index) => this.#move((navigation, manifest) => navigation.goTo(index, manifest)),
    first: () => this.#move((navigation, manifest) => navigation.first(manifest)),
    end: () => this.#move((navigation) => ((navigation.locked = false), navigation.end())),
    play: () => this.#navigate((navigation, manifest) => navigation.togglePlay(manifest)),
    lock: () => this.#navigate((navigation, manifest) => navigation.toggleLock(manifest)),
    live: () => this.#navigate((navigation, manifest) => (navigation.live ? navigation.toggleLock(manifest) : navigation.follow())),
    run: (number) => this.#source.runs().slice(number - 1, number).forEach(({ id }) => this.#commands.choose(id, false)),
    choose: (id, other) => this.#navigate((navigation) => (other ? navigation.compare(this.#source.runs(), id) : navigation.choose(id))),
    compare: () => this.#navigate((navigation) => (navigation.comparing ? navigation.endComparison() : navigation.compare(this.#source.runs()))),
    pin: () => this.#togglePin(),
    compareStep: (index) => this.#navigate((navigation) => navigation.run !== null && navigation.comparePicture({ run: navigation.run, index, item: navigation.item })),
    selectItem: (item, other) => this.#navigate((navigation, manifest) => (other ? navigation.compareItem(item, manifest) : (navigation.item = item))),
    moveItem: (count) => this.#navigate((navigation) => navigation.moveItem(count, this.#selection.layout.items)),
    showBatch: () => this.#navigate((navigation) => (navigation.item = null)),
    toggleFrames: () => this.#toggleFrames(),
    seekFrame: (fraction) => this.#pauseAtFrame((frames) => Math.floor(fraction * frames)),
    moveFrames: (count) => this.#pauseAtFrame(() => this.#navigation.frame + count),
    changeSpeed: (direction) => this.#changeSpeed(direction),
    setView: (changed) => this.#changeView(changed),
    latents: () => this.#changeView({ latents: this.#view.latents === "noisy" ? "denoised" : "noisy" }),
    smooth: () => this.#changeView({ smooth: !this.#view.smooth }),
    oneToOne: () => this.#panel.pane.toggleOneToOne(),
    fullscreen: () => this.#panel.fullscreen.toggle(),
    shortcuts: () => this.#toggleShortcuts(),
    figures: () => this.#toggleFigures(),
    menu: () => this.#toggleMenu(),
    pauseRun: () => this.#panel.runControl.pause(),
    keep: () => this.#panel.runControl.keep(),
    save: () => this.#exportTo("save"),
    copy: () => this.#exportTo("copy"),
    copyPath: async () => this.#panel.messages.showToast(await this.#copyPath()),
    openTab: () => this.#exportTo("openTab"),
    back: () => this.#back(),
    render: () => this.#render(),
  };

  /**
   * @param {Document} document of `element`
   * @param {import("./types.mjs").Source} source
   * @param {import("./types.mjs").ViewerOptions} [options]
   */
  constructor(document, source, options = {}) {
    this.#document = document;
    this.#source = source;
    this.#options = options;
    this.#view = { ...DEFAULT_VIEW, ...options.view };
    const window = windowOf(document);
    const frames = new AnimationFrames(window);
    /** @param {string} address */
    const load = (address) => loadImage(address, document);
    const prefersReducedMotion = () => Boolean(window.matchMedia?.("(prefers-reduced-motion: reduce)").matches);
    this.#selection = new ViewSelection(source, this.#view, frames, prefersReducedMotion);
    this.#navigation = this.#selection.navigation;
    this.#images = new ImageCache((address) => frames.load(address, load));
    this.#loader = new ImageLoader(this.#images, (set, images) => this.#paint(set, images));
    this.#panel = new Panel(document, this.#selection, source, this.#view, options, this.#images, load, this.#commands, this.#actions(options.actions ?? []));
    this.#export = new ImageExport(document, this.#images, (text) => this.#panel.messages.showToast(text));
    /** Fills its parent, with a height of at least 280 px; its parts are in a shadow root. @type {HTMLElement} */
    this.element = create(document, "div", { dir: textDirection() });
    const style = create(document, "style", { textContent: STYLE });
    this.element.attachShadow({ mode: "open" }).append(style, this.#panel.element, this.#panel.fullscreen.element);
    this.#listen();
    this.#render();
  }

  /** Reads the source again, and requests again what has failed. */
  refresh() {
    this.#loader.reset();
    this.#asked.clear();
    this.#render();
  }

  /** Changes preferences without a call of `options.onView`. @param {Partial<View>} view */
  setView(view) {
    Object.assign(this.#view, view);
    this.#render();
  }

  /** Selects a run, unless the user has locked a step. @param {string} id */
  select(id) {
    if (this.#navigation.locked) return;
    this.#navigate((navigation) => navigation.select(id));
  }

  /** Compares two runs. @param {string} first @param {string} second */
  compare(first, second) {
    this.#navigate((navigation) => {
      navigation.select(first);
      navigation.compare(this.#source.runs(), second);
    });
  }

  /** Changes the text that is shown while there is no run. @param {string} text */
  setIdle(text) {
    this.#options.idle = text;
    this.#render();
  }

  /** Gives the keyboard focus to the viewer. */
  focus() {
    this.#panel.element.focus({ preventScroll: true });
  }

  /** A viewer that is not visible fetches nothing. @param {boolean} visible */
  #setVisible(visible) {
    if (visible === this.#visible) return;
    this.#visible = visible;
    if (!visible) this.#navigation.playing = false;
    const window = windowOf(this.#document); // only while visible: a listener would keep a removed viewer in memory
    if (visible) window.addEventListener("wheel", this.#wheel, { capture: true, passive: false });
    else window.removeEventListener("wheel", this.#wheel, true);
    this.#render();
  }

  #listen() {
    const { element } = this.#panel;
    this.#source.onChange(() => this.#render());
    element.addEventListener("keydown", (event) => this.#key(event));
    // After a click on a button, or when the focused button is hidden, the keyboard focus goes back to the viewer.
    element.addEventListener("click", (event) => {
      const button = targetOf(event).closest("button");
      if (button && !this.#panel.menu.open && (event.detail > 0 || !button.offsetWidth)) this.focus();
    });
    // The menu key opens the viewer's menu, and the right button that of the browser.
    element.addEventListener("contextmenu", (event) => event.button !== 2 && !event.ctrlKey && event.pointerType !== "touch" && event.preventDefault());
    const { ResizeObserver } = windowOf(this.#document);
    const layout = new ResizeObserver(() => this.#panel.layout());
    for (const part of [element, this.#panel.pane.element]) layout.observe(part);
    new ResizeObserver(([{ contentRect }]) => this.#setVisible(contentRect.width > 0)).observe(this.element);
  }

  /**
   * Uses a turn of the wheel over the viewer, before the page gets it: ComfyUI's Vue nodes zoom the canvas with it.
   *
   * @param {WheelEvent} event
   */
  #wheel = (event) => {
    const { element, pane, runList, filmStrip, painted, fullscreen } = this.#panel;
    const path = event.composedPath();
    if (!path.includes(element)) return;
    const scrolls = path.some((part) => /** @type {Partial<Element>} */ (part).matches?.(SCROLLING)) && !event.ctrlKey;
    const focused = fullscreen.open || !this.#options.wheelNeedsFocus || activeElementAround(this.element) === this.element;
    const onPicture = focused && painted && !scrolls && path.includes(pane.element);
    const row = [runList, filmStrip].find(({ element }) => path.includes(element));
    const used = row ? row.wheel(event) : onPicture && pane.wheel(event);
    if (used || (fullscreen.open && event.ctrlKey)) event.preventDefault(); // a pinch on a touchpad would zoom the page
    if (used || fullscreen.open || (focused && scrolls)) event.stopImmediatePropagation();
  };

  /** @param {KeyboardEvent} event */
  #key(event) {
    const [name, argument] = commandOf(event) ?? [];
    if (!name) return;
    const ignored = event.repeat && name !== "move"; // only moves repeat while a key is held down
    const command = /** @type {(argument?: number) => unknown} */ (this.#commands[name]);
    if (!ignored && command(argument) === false) return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Rendering

  #render() {
    this.#update();
    this.#reportRun();
    if (this.#visible) {
      for (const { run } of this.#selection.pair) this.#readManifest(run);
      this.#loader.request(this.#selection.images());
    }
    this.#panel.show();
    if (this.#visible) this.#panel.showRuns();
    this.#startTimers();
  }

  #update() {
    if (!this.#panel.strip.dragging) this.#selection.update();
  }

  #reportRun() {
    const selected = this.#selection.pair[0]?.run;
    if (!selected || selected.id === this.#reported) return;
    this.#reported = selected.id;
    this.#options.onRun?.(selected);
  }

  /** Requests a manifest that is missing or stale; while a run goes on, at most once per painted picture. @param {Run} run */
  async #readManifest(run) {
    const known = run.manifest !== null;
    if (run.gone || (known && !run.stale) || (known && !this.#loader.idle && run.state === "running")) return;
    const state = `${run.state} ${run.index}`; // a failed request is repeated when this changes
    if (this.#asked.get(run.id) === state) return;
    this.#asked.set(run.id, state);
    const manifest = await this.#source.manifest(run.id);
    if (manifest) this.#asked.delete(run.id);
    this.#render();
  }

  /** @param {PictureSet} set @param {(Picture | null)[]} images */
  #paint(set, images) {
    if (images.some(Boolean)) {
      this.#panel.paint(set, images);
      this.#render();
      this.#preload();
      return;
    }
    const { run } = set.panes[0];
    if (!run.gone) this.#source.manifest(run.id); // finds out whether the run is gone
  }

  #preload() {
    for (const address of this.#selection.upcoming()) this.#images.get(address);
  }

  // Time

  #startTimers() {
    const { layout, framesPlaying, manifest } = this.#selection;
    const painted = this.#panel.painted !== null && this.#loader.idle;
    const maySilence = this.#source.runs().some((run) => run.state === "running" && run.written != null);
    this.#every("silence", maySilence, true, SILENCE_CHECK_MS, () => this.#render());
    this.#every("play", this.#navigation.playing, painted, 1000 / this.#view.speed, () => {
      this.#navigation.tick(this.#selection.manifest);
      this.#render();
    });
    const playsFiles = framesPlaying && !layout.decodable && layout.frames > 1;
    this.#every("frames", playsFiles, painted, 1000 / (manifest?.picture?.fps || DEFAULT_FPS), () => this.#nextFrame());
  }

  /**
   * Calls `then` each `ms` milliseconds while `active`; skips a call if not `ready`.
   *
   * @param {string} name @param {boolean} active @param {boolean} ready @param {number} ms @param {() => void} then
   */
  #every(name, active, ready, ms, then) {
    if (!active || !this.#visible) return this.#timers.cancel(name);
    this.#timers.start(name, ms, () => {
      if (ready) then();
      this.#startTimers();
    });
  }

  /** Shows the next frame of a video; waits for a frame that is not loaded yet. */
  #nextFrame() {
    const next = (this.#navigation.frame + 1) % this.#selection.layout.frames;
    const set = this.#selection.images(next);
    if (set?.addresses.every((address) => this.#images.ready(address))) this.#showFrame(next);
    else this.#preload();
  }

  /** @param {number} frame */
  #showFrame(frame) {
    this.#navigation.frame = Math.min(Math.max(frame, 0), this.#selection.layout.frames - 1);
    this.#render();
  }

  /** @param {(frames: number) => number} frameOf gives the frame to show, for the number of frames */
  #pauseAtFrame(frameOf) {
    this.#selection.playFrames = false; // first, because some files have single frames only while paused
    this.#showFrame(frameOf(this.#selection.layout.frames));
  }

  #toggleFrames() {
    const { pair, layout, framesPlaying, manifest } = this.#selection;
    const { run, step } = pair[0] ?? {};
    const fps = manifest?.picture?.fps || DEFAULT_FPS;
    if (framesPlaying && layout.decodable && step) this.#navigation.frame = this.#panel.frameBar.estimateFrame(fps, frameCount({ run, step }));
    this.#selection.playFrames = !framesPlaying;
    this.#render();
  }

  // Commands

  /** @param {Change} change */
  #navigate(change) {
    this.#update(); // else a run that has just begun would undo the change
    const result = change(this.#navigation, this.#selection.manifest);
    this.#render();
    return result;
  }

  /** Navigates to another step, which ends playback. @param {Change} change */
  #move(change) {
    this.#navigation.playing = false;
    this.#navigate(change);
  }

  /** @param {Partial<View>} changed */
  #changeView(changed) {
    this.#options.onView?.(changed);
    this.setView(changed);
  }

  /** @param {1 | -1} direction */
  #changeSpeed(direction) {
    const at = SPEEDS.findIndex((speed) => speed >= this.#view.speed);
    this.#changeView({ speed: SPEEDS[(at + direction + SPEEDS.length) % SPEEDS.length] });
  }

  #toggleShortcuts() {
    this.#panel.shortcuts.hidden = !this.#panel.shortcuts.hidden;
    this.#render();
  }

  /** The groups of the menu, with those of the host. @param {import("./action-menu.mjs").Actions[]} ofHost */
  #actions(ofHost) {
    const written = writtenActions(this.#document, this.#source, () => this.#copyPath());
    return [pictureActions(this.#commands, () => this.#navigation.comparing), ...ofHost, written];
  }

  /** Copies the path of the folder that the run writes. Returns the result in words. */
  async #copyPath() {
    const { path } = this.#selection.manifest?.written ?? {};
    if (!path) return "";
    return (await copyText(this.#panel.element, path)) ? t("Copied {path}", { path }) : t("The browser does not allow to copy. The path is {path}", { path });
  }

  #togglePin() {
    const [, second] = this.#selection.pair;
    this.#navigate((navigation, manifest) => navigation.togglePin(manifest, second?.step ?? null));
    if (this.#navigation.pin && !second) this.#panel.messages.showToast(t("Go to another picture to compare it with this one"));
  }

  #toggleFigures() {
    const { figures } = this.#panel;
    figures.element.hidden = !figures.element.hidden;
    this.#render();
  }

  /** Opens the menu for the picture on the screen; in a comparison, for the first one. */
  #toggleMenu() {
    const { menu, painted, element } = this.#panel;
    menu.toggle(painted?.panes[0], element);
  }

  /** Undoes one thing at a time; false if there is nothing to undo. */
  #back() {
    const { shortcuts, figures, pane, fullscreen } = this.#panel;
    if (!shortcuts.hidden) this.#toggleShortcuts();
    else if (!figures.element.hidden) this.#toggleFigures();
    else if (pane.zoomed) pane.fit();
    else if (this.#navigation.pin) this.#commands.compare();
    else if (this.#navigation.item !== null) this.#commands.showBatch();
    else if (this.#navigation.comparing) this.#commands.compare();
    else if (fullscreen.open) fullscreen.toggle();
    else return false;
  }

  /** @param {"save" | "copy" | "openTab"} how to export the shown pictures; in a comparison, those of the first run */
  #exportTo(how) {
    const shown = this.#panel.painted?.panes[0];
    if (shown) this.#export[how](shown);
  }
}

