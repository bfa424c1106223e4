/** The viewer: one element in which a person travels through the steps of runs, wherever those come from. */

import { make } from "./elements.mjs";
import { Frames } from "./animation-frames.mjs";
import { wishOf } from "./shortcuts.mjs";
import { framesOf } from "./manifest.mjs";
import { Panel } from "./panel.mjs";
import { loadPicture, Pictures } from "./image-cache.mjs";
import { Projector } from "./image-loader.mjs";
import { Sight } from "./selection.mjs";
import { STYLE } from "./style.mjs";
import { Taking } from "./export.mjs";
import { Timers } from "./timers.mjs";

/** @typedef {import("./types.mjs").View} View */

/** @type {View} */
export const VIEW = { speed: 8, smooth: true, follow: true, compare: "wipe", lock: "step" };
export const SPEEDS = [1, 2, 4, 8, 16, 24];

const FPS = 16; // of a video that does not say
const LISTEN_MS = 10_000; // how often it is looked whether a run has gone silent

/**
 * Imports of `web/*.mjs` are static, named and relative, so that a page can carry all of it within itself. Colours come
 * from `--safelight-ground`, `-text`, `-quiet`, `-lamp` and `-ring` if the page sets them, else from ComfyUI's variables.
 */
export class Viewer {
  #document;
  #source;
  #options;
  #view;
  #sight;
  #travel; // of the sight
  #pictures;
  #projector;
  #panel;
  #taking;
  #visible = false;
  #asked = new Map(); // manifests that are on their way or could not be had, by id of the run
  #timers = new Timers();
  #leave = [];

  /** What a person wants, by the names that keys and buttons have for it; false: there was nothing to do. */
  #wishes = {
    travel: (count) => this.#move((travel, manifest) => travel.by(count, manifest)),
    seek: (index) => this.#move((travel, manifest) => travel.go(index, manifest)),
    first: () => this.#move((travel, manifest) => travel.first(manifest)),
    end: () => this.#move((travel) => ((travel.locked = false), travel.end())),
    play: () => this.#act((travel, manifest) => travel.togglePlay(manifest)),
    hold: () => this.#act((travel, manifest) => travel.toggleLock(manifest)),
    live: () => this.#act((travel, manifest) => (travel.live ? travel.toggleLock(manifest) : travel.follow())),
    run: (number) => this.#source.runs().slice(number - 1, number).forEach(({ id }) => this.#wishes.choose(id, false)),
    choose: (id, other) => this.#act((travel) => (other ? travel.compare(this.#source.runs(), id) : travel.choose(id))),
    compare: () => this.#act((travel) => (travel.other === null ? travel.compare(this.#source.runs()) : (travel.other = null))),
    pick: (item) => this.#act((travel) => (travel.item = item)),
    allOfBatch: () => this.#act((travel) => (travel.item = null)),
    roll: () => this.#roll(),
    seekFrame: (across) => this.#holdFrame((frames) => Math.floor(across * frames)),
    byFrames: (count) => this.#holdFrame(() => this.#travel.frame + count),
    faster: (by) => this.#faster(by),
    prefer: (changed) => this.#prefer(changed),
    smooth: () => this.#prefer({ smooth: !this.#view.smooth }),
    oneToOne: () => this.#panel.stage.toggleOneToOne(),
    full: () => this.#panel.full.toggle(),
    keys: () => this.#toggleKeys(),
    save: () => this.#take("save"),
    copy: () => this.#take("copy"),
    openTab: () => this.#take("openTab"),
    back: () => this.#back(),
    changed: () => this.#render(),
  };

  /**
   * @param {Document} document where `element` is going to be
   * @param {import("./types.mjs").Source} source
   * @param {import("./types.mjs").Options} [options]
   */
  constructor(document, source, options = {}) {
    this.#document = document;
    this.#source = source;
    this.#options = options;
    this.#view = { ...VIEW, ...options.view };
    const window = document.defaultView;
    const frames = new Frames(window);
    const load = (address) => loadPicture(address, document);
    const isCalm = () => Boolean(window.matchMedia?.("(prefers-reduced-motion: reduce)").matches);
    this.#sight = new Sight(source, this.#view, frames, isCalm);
    this.#travel = this.#sight.travel;
    this.#pictures = new Pictures((address) => frames.load(address, load));
    this.#projector = new Projector(this.#pictures, (slide, pictures) => this.#paint(slide, pictures));
    this.#panel = new Panel(document, this.#sight, source, this.#view, options, this.#pictures, load, this.#wishes);
    this.#taking = new Taking(document, this.#pictures, (text) => this.#panel.telling.briefly(text));
    /** Fills what it is given, at least 280 px high; everything within is in its shadow root. @type {HTMLElement} */
    this.element = make(document, "div");
    const style = make(document, "style", { textContent: STYLE });
    this.element.attachShadow({ mode: "open" }).append(style, this.#panel.element, this.#panel.full.element);
    this.#listen();
    this.#render();
  }

  /** Looks at one run, compares two, or with none follows the newest. @param {...string} ids of runs */
  show(...ids) {
    const [run, other = null] = ids;
    this.#act((travel) => {
      travel.other = null;
      if (run === undefined) travel.follow();
      else Object.assign(travel, { run, other, playing: false });
    });
  }

  /** Reads the source again, for what it does not tell by itself. */
  look() {
    this.#projector.forget();
    this.#asked.clear();
    this.#render();
  }

  /** Other preferences than those that the viewer was made with; nobody is told. @param {Partial<View>} view */
  prefer(view) {
    Object.assign(this.#view, view);
    this.#render();
  }

  /** Nothing is fetched while nobody sees it. The viewer finds out by itself when its element has no size. */
  set visible(visible) {
    if (visible === this.#visible) return;
    this.#visible = visible;
    if (!visible) this.#travel.playing = false;
    this.#render();
  }

  /** So that keys are for the viewer. */
  focus() {
    this.#panel.element.focus({ preventScroll: true });
  }

  /** Stops listening and playing. */
  destroy() {
    this.visible = false;
    for (const leave of this.#leave) leave();
  }

  #listen() {
    const { element, stage, full } = this.#panel;
    this.#leave.push(this.#source.onChange(() => this.#render()));
    element.addEventListener("keydown", (event) => this.#key(event));
    // A button that was clicked keeps the keys of the viewer, but not the space bar for itself; one that has gone, nothing.
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button && (event.detail > 0 || !button.offsetWidth)) this.focus();
    });
    stage.element.addEventListener("wheel", (event) => {
      const focused = this.element.getRootNode().activeElement === this.element || full.open;
      if ((this.#options.wheelNeedsFocus && !focused) || !this.#panel.painted) return;
      event.preventDefault();
      event.stopPropagation();
      stage.wheel(event);
    }, { passive: false });
    const { ResizeObserver } = this.#document.defaultView;
    const sizes = new ResizeObserver(() => this.#panel.layout());
    sizes.observe(element);
    const seen = new ResizeObserver(([{ contentRect }]) => (this.visible = contentRect.width > 0));
    seen.observe(this.element);
    this.#leave.push(() => sizes.disconnect(), () => seen.disconnect());
  }

  #key(event) {
    const [name, number] = wishOf(event) ?? [];
    const again = event.repeat && name !== "travel"; // held down, a key travels; it does nothing else twice
    if (!name || (!again && this.#wishes[name](number) === false)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  // What is to be seen

  #render() {
    this.#meet();
    if (this.#visible) {
      for (const { run } of this.#sight.pair) this.#ask(run);
      this.#projector.want(this.#sight.slide());
    }
    this.#panel.show();
    if (this.#visible) this.#panel.showRuns();
    this.#keepTime();
  }

  #meet() {
    if (!this.#panel.strip.dragging) this.#sight.meet();
  }

  /** A manifest that is missing is asked for; of one that is old by now, no more than one for each picture. */
  async #ask(run) {
    const known = run.manifest !== null;
    if (run.gone || (known && !run.stale) || (known && !this.#projector.idle && run.state === "running")) return;
    const news = `${run.state} ${run.index}`; // what could not be had is asked for again when there is news
    if (this.#asked.get(run.id) === news) return;
    this.#asked.set(run.id, news);
    const manifest = await this.#source.manifest(run.id);
    if (manifest) this.#asked.delete(run.id);
    this.#render();
  }

  #paint(slide, pictures) {
    if (pictures.some(Boolean)) {
      this.#panel.paint(slide, pictures);
      this.#render();
      this.#preload();
      return;
    }
    // Perhaps the run has gone: whoever has it will say so.
    const { run } = slide.panes[0];
    if (!run.gone) this.#source.manifest(run.id);
  }

  #preload() {
    for (const address of this.#sight.ahead()) this.#pictures.get(address);
  }

  // Time

  /** Each timer begins when there is something to do and what went before is on the screen. */
  #keepTime() {
    const { extent, rolling, manifest } = this.#sight;
    const shown = this.#panel.painted && this.#projector.idle;
    const awaited = this.#source.runs().some((run) => run.state === "running" && run.written != null);
    this.#every("silence", awaited, true, LISTEN_MS, () => this.#render());
    this.#every("play", this.#travel.playing, shown, 1000 / this.#view.speed, () => {
      this.#travel.tick(this.#sight.manifest);
      this.#render();
    });
    const plays = rolling && !extent.apart && extent.frames > 1;
    this.#every("roll", plays, shown, 1000 / (manifest?.picture?.fps || FPS), () => this.#nextFrame());
  }

  #every(name, wanted, ready, ms, then) {
    if (!wanted || !this.#visible) return this.#timers.cancel(name);
    this.#timers.start(name, ms, () => {
      if (ready) then();
      this.#keepTime();
    });
  }

  /** A video waits for its frames, rather than to leave some out. */
  #nextFrame() {
    const next = (this.#travel.frame + 1) % this.#sight.extent.frames;
    const slide = this.#sight.slide(next);
    if (slide?.addresses.every((address) => this.#pictures.ready(address))) this.#toFrame(next);
    else this.#preload();
  }

  #toFrame(frame) {
    this.#travel.frame = Math.min(Math.max(frame, 0), this.#sight.extent.frames - 1);
    this.#render();
  }

  /** Shows a frame, and goes on showing it. @param {(frames: number) => number} which of how many */
  #holdFrame(which) {
    this.#sight.rolls = false;
    this.#toFrame(which(this.#sight.extent.frames)); // some can be told apart only while they are held
  }

  #roll() {
    const { pair, extent, rolling, manifest } = this.#sight;
    if (rolling && extent.apart) this.#travel.frame = this.#panel.film.guess(manifest.picture?.fps || FPS, framesOf(pair[0]));
    this.#sight.rolls = !rolling;
    this.#render();
  }

  // What a person does

  /** @param {(travel: import("./navigation.mjs").Travel, manifest: object | null) => void} change */
  #act(change) {
    this.#meet(); // a run that began a moment ago must not undo what is chosen now
    change(this.#travel, this.#sight.manifest);
    this.#render();
  }

  /** Goes elsewhere, which ends playing. */
  #move(change) {
    this.#travel.playing = false;
    this.#act(change);
  }

  #prefer(changed) {
    Object.assign(this.#view, changed);
    this.#options.onView?.(changed);
    this.#render();
  }

  #faster(by) {
    const at = SPEEDS.findIndex((speed) => speed >= this.#view.speed);
    this.#prefer({ speed: SPEEDS[(at + by + SPEEDS.length) % SPEEDS.length] });
  }

  #toggleKeys() {
    this.#panel.keys.hidden = !this.#panel.keys.hidden;
    this.#render();
  }

  /** One thing at a time; false if there is nothing to come back from. */
  #back() {
    const { keys, stage, full } = this.#panel;
    if (!keys.hidden) this.#toggleKeys();
    else if (stage.zoomed) stage.fit();
    else if (this.#travel.item !== null) this.#act((travel) => (travel.item = null));
    else if (this.#travel.other !== null) this.#act((travel) => (travel.other = null));
    else if (full.open) full.toggle();
    else return false;
  }

  /** @param {"save" | "copy" | "openTab"} what is done with what is on the screen; of two runs, with the first one's */
  #take(what) {
    const pane = this.#panel.painted?.panes[0];
    if (pane) this.#taking[what](pane);
  }
}
