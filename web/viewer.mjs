/** The viewer: one element in which a person travels through the steps of runs, wherever those come from. */

import { caption, shortSigma } from "./caption.mjs";
import { Compare } from "./compare.mjs";
import { make } from "./elements.mjs";
import { Film } from "./film.mjs";
import { Frames } from "./frames.mjs";
import { FullWindow } from "./full.mjs";
import { Glance } from "./glance.mjs";
import { keysCard, wishOf } from "./keys.mjs";
import { Line } from "./line.mjs";
import { framesOf, isSilent, nearestStep, pictured, shape, sigmas } from "./manifest.mjs";
import { loadPicture, Pictures } from "./pictures.mjs";
import { Projector } from "./projector.mjs";
import { Runs } from "./runs.mjs";
import { sceneOf, Sight } from "./sight.mjs";
import { Stage } from "./stage.mjs";
import { Strip } from "./strip.mjs";
import { STYLE } from "./style.mjs";
import { sizeOf, Taking } from "./taking.mjs";
import { Telling } from "./telling.mjs";
import { Timers } from "./timers.mjs";
import { Tools } from "./tools.mjs";

/** @typedef {import("./types.mjs").Shown} Shown @typedef {import("./types.mjs").View} View */

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
  #taking;
  #stage;
  #strip;
  #runs;
  #compare;
  #film;
  #glance;
  #line;
  #tools;
  #telling;
  #full;
  #keys;
  #root;
  #visible = false;
  #asked = new Map(); // manifests that are on their way or could not be had, by id of the run
  #painted = null; // the slide on the screen
  #timers = new Timers();
  #leave = [];

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
    this.#build(load);
    this.#listen();
    this.#render();
  }

  /** Looks at one run, compares two, or with none follows the newest. @param {...string} ids of runs */
  show(...ids) {
    const [run, other = null] = ids;
    this.#act(() => {
      this.#travel.other = null;
      if (run === undefined) this.#travel.follow();
      else Object.assign(this.#travel, { run, other, playing: false });
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
    this.#root.focus({ preventScroll: true });
  }

  /** Stops listening and playing. */
  destroy() {
    this.visible = false;
    for (const leave of this.#leave) leave();
  }

  #build(load) {
    const document = this.#document;
    const source = this.#source;
    const act = (name) => () => this.#wishes[name]();
    this.#stage = new Stage(document, { pick: (item) => this.#act(() => (this.#travel.item = item)), zoomed: () => this.#renderTools() });
    this.#strip = new Strip(document, { seek: (index) => this.#go(index), hover: (at) => this.#point(at) });
    this.#runs = new Runs(document, load, (...picture) => source.picture(...picture), {
      choose: (id, other) => this.#act(() => (other ? this.#travel.compare(source.runs(), id) : this.#travel.choose(id))),
      compare: act("compare"),
    });
    this.#compare = new Compare(document, (change) => this.#prefer(change));
    this.#film = new Film(document, {
      toggle: () => this.#toggleFilm(),
      seek: (across) => this.#hold((frames) => Math.floor(across * frames)),
      by: (count) => this.#hold(() => this.#travel.frame + count),
    });
    this.#glance = new Glance(document, this.#pictures);
    this.#line = new Line(document, { play: act("play"), faster: (by) => this.#faster(by) });
    this.#tools = new Tools(document, {
      ...Object.fromEntries(["oneToOne", "save", "hold", "keys", "full"].map((name) => [name, act(name)])),
      allOfBatch: () => this.#act(() => (this.#travel.item = null)),
      smooth: () => this.#prefer({ smooth: !this.#view.smooth }),
      copy: () => this.#take("copy"),
      openTab: () => this.#take("openTab"),
      live: () => this.#act(() => this.#followOrHold()),
    });
    this.#telling = new Telling(document);
    this.#taking = new Taking(document, this.#pictures, (text) => this.#telling.briefly(text));
    this.#keys = keysCard(document);
    const over = (side, ...parts) => make(document, "div", { className: `over ${side}` }, ...parts);
    const { words, note, toast, spoken } = this.#telling;
    this.#stage.element.append(
      words,
      over("top", note, this.#compare.element, this.#compare.list),
      over("bottom", this.#film.element, toast, this.#tools.live, this.#tools.element),
      this.#keys,
    );
    this.#root = make(document, "div", { className: "viewer", tabIndex: 0, role: "group", ariaLabel: "Steps of a run" });
    this.#root.append(this.#stage.element, this.#strip.element, this.#line.element, this.#runs.element, this.#glance.element, spoken);
    this.#full = new FullWindow(document, this.#root, () => this.#render());
    /** Fills what it is given, at least 280 px high; everything within is in its shadow root. @type {HTMLElement} */
    this.element = make(document, "div");
    const style = make(document, "style", { textContent: STYLE });
    this.element.attachShadow({ mode: "open" }).append(style, this.#root, this.#full.element);
  }

  #listen() {
    const root = this.#root;
    this.#leave.push(this.#source.onChange(() => this.#render()));
    root.addEventListener("keydown", (event) => this.#key(event));
    // A button that was clicked keeps the keys of the viewer, but not the space bar for itself; one that has gone, nothing.
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button && (event.detail > 0 || !button.offsetWidth)) this.focus();
    });
    this.#stage.element.addEventListener("wheel", (event) => {
      const focused = this.element.getRootNode().activeElement === this.element || this.#full.open;
      if ((this.#options.wheelNeedsFocus && !focused) || !this.#painted) return;
      event.preventDefault();
      event.stopPropagation();
      this.#stage.wheel(event);
    }, { passive: false });
    this.#keys.addEventListener("click", () => this.#toggleKeys());
    const { ResizeObserver } = this.#document.defaultView;
    const sizes = new ResizeObserver(() => {
      this.#stage.layout();
      this.#strip.layout();
    });
    sizes.observe(root);
    const seen = new ResizeObserver(([{ contentRect }]) => (this.visible = contentRect.width > 0));
    seen.observe(this.element);
    this.#leave.push(() => sizes.disconnect(), () => seen.disconnect());
  }

  // What is to be seen

  #render() {
    this.#meet();
    const { pair } = this.#sight;
    if (this.#visible) {
      for (const { run } of pair) this.#ask(run);
      this.#projector.want(this.#sight.slide());
    }
    this.#renderWords(pair);
    this.#renderStrip(pair);
    this.#renderTools();
    if (this.#visible) this.#runs.show(this.#source.runs(), this.#travel.run, this.#travel.other);
    this.#keepTime();
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
    if (!pictures.some(Boolean)) {
      // Perhaps the run has gone: whoever has it will say so.
      const { run } = slide.panes[0];
      if (!run.gone) this.#source.manifest(run.id);
      return;
    }
    if (this.#painted?.addresses.join() !== slide.addresses.join()) this.#film.began();
    this.#painted = slide;
    let at = 0;
    const contents = slide.panes.map(({ run, step, addresses }) => {
      const own = pictures.slice(at, (at += addresses.length));
      own.forEach((picture, i) => picture && describe(picture, `Step ${step.index}${own.length > 1 ? `, picture ${i + 1}` : ""}`));
      return { pictures: own, shape: shape(run.manifest) ?? sizeOf(own.find(Boolean)) };
    });
    this.#stage.show(contents);
    for (const { run, step } of slide.panes) this.#runs.saw(run, step);
    this.#render();
    this.#preload();
  }

  #preload() {
    for (const address of this.#sight.ahead()) this.#pictures.get(address);
  }

  /** @param {Shown[]} pair */
  #renderWords(pair) {
    const [first] = pair;
    const run = first?.run ?? null;
    const own = run !== null && this.#painted?.panes[0].run.id === run.id;
    const behind = run !== null && this.#painted !== null && this.#painted.scene !== sceneOf(pair);
    this.#stage.element.classList.toggle("behind", behind);
    this.#telling.show(run, own, this.#options.idle);
    const is = { behind, empty: !this.#painted, silent: run !== null && isSilent(run, Date.now()), still: this.#options.still };
    this.#root.className = ["viewer", run?.state ?? "idle", ...Object.keys(is).filter((name) => is[name])].join(" ");
    const shown = own ? this.#painted.panes[0].step : first?.step;
    this.#line.say(run ? caption(run, shown, this.#travel.index === null) : {}, run?.total ?? null);
    const comparing = pair.length > 1;
    this.#compare.element.hidden = this.#compare.list.hidden = !comparing;
    this.#stage.mode = comparing && this.#painted?.panes.length === 2 ? this.#view.compare : "one";
    this.#stage.smooth = this.#view.smooth;
    if (comparing) this.#compare.show(this.#view, pair);
  }

  /** @param {Shown[]} pair */
  #renderStrip([first]) {
    const run = first?.run;
    const manifest = run?.manifest ?? null;
    const last = manifest?.steps.at(-1)?.index ?? 0;
    const total = Math.max(run?.total ?? manifest?.sampler?.steps ?? 0, last, run?.index ?? 0);
    const at = first?.step?.index ?? null;
    const sigma = first?.step?.sigma == null ? "" : `, sigma ${shortSigma(first.step.sigma)}`;
    const text = at === null ? "" : `step ${at} of ${total}${sigma}`;
    const steps = pictured(manifest).map(({ index }) => index);
    this.#strip.show({ total, sigmas: sigmas(manifest, total), steps, done: Math.max(run?.index ?? 0, last), at, text });
    this.#strip.element.classList.toggle("failed", run?.state === "failed");
  }

  #renderTools() {
    const travel = this.#travel;
    const { extent, rolling } = this.#sight;
    const [first] = this.#sight.pair;
    const [newest] = this.#source.runs();
    const goesOn = !this.#options.still && newest?.state === "running" && !newest.gone && !isSilent(newest, Date.now());
    this.#tools.show({
      which: travel.item === null || extent.items < 2 ? "" : `${travel.item + 1} / ${extent.items}`,
      count: this.#painted?.panes[0].addresses.length ?? 0,
      zoomed: this.#stage.zoomed,
      smooth: this.#view.smooth,
      locked: travel.locked,
      still: this.#options.still === true,
      full: this.#full.open,
      keys: !this.#keys.hidden,
    });
    this.#tools.showLive(travel, newest, goesOn);
    this.#line.show({ playing: travel.playing, playable: pictured(first?.run.manifest).length > 1, speed: this.#view.speed });
    this.#film.show(extent, { all: first?.step ? framesOf(first) : 1, at: this.#painted?.frame ?? 0, rolling });
  }

  /** @param {{index: number, x: number} | null} at which step of the strip is pointed at */
  #point(at) {
    const [first] = this.#sight.pair;
    const step = at && nearestStep(pictured(first?.run.manifest), at.index);
    if (!step) return this.#glance.hide();
    const [address] = this.#sight.addresses(first.run, step);
    this.#glance.show({ run: first.run, step }, address, { x: at.x, top: this.#strip.element.offsetTop, width: this.#root.clientWidth });
  }

  // Time

  /** Each timer begins when there is something to do and what went before is on the screen. */
  #keepTime() {
    const { extent, rolling, manifest } = this.#sight;
    const shown = this.#painted && this.#projector.idle;
    const awaited = this.#source.runs().some((run) => run.state === "running" && run.written != null);
    this.#every("silence", awaited, true, LISTEN_MS, () => this.#render());
    this.#every("play", this.#travel.playing, shown, 1000 / this.#view.speed, () => {
      this.#travel.tick(manifest);
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
  #hold(which) {
    this.#sight.rolls = false;
    this.#toFrame(which(this.#sight.extent.frames)); // some can be told apart only while they are held
  }

  #toggleFilm() {
    const { pair, extent, rolling } = this.#sight;
    const fps = pair[0]?.run.manifest?.picture?.fps || FPS;
    if (rolling && extent.apart) this.#travel.frame = this.#film.guess(fps, framesOf(pair[0]));
    this.#sight.rolls = !rolling;
    this.#render();
  }

  // What a person does

  /** By the names that keys and buttons have for it; false: there was nothing to do. */
  #wishes = {
    travel: (count) => this.#by(count),
    first: () => this.#act(() => ((this.#travel.playing = false), this.#travel.first(this.#sight.manifest))),
    end: () => this.#act(() => ((this.#travel.playing = this.#travel.locked = false), this.#travel.end())),
    play: () => this.#act(() => this.#travel.togglePlay(this.#sight.manifest)),
    hold: () => this.#act(() => this.#travel.toggleLock(this.#sight.manifest)),
    run: (number) => this.#toRun(this.#source.runs()[number - 1]),
    compare: () => this.#toggleCompare(),
    full: () => this.#full.toggle(),
    oneToOne: () => this.#stage.toggleOneToOne(),
    save: () => this.#take("save"),
    keys: () => this.#toggleKeys(),
    back: () => this.#back(),
  };

  #key(event) {
    const [name, number] = wishOf(event) ?? [];
    const again = event.repeat && name !== "travel"; // held down, a key travels; it does nothing else twice
    if (!name || (!again && this.#wishes[name](number) === false)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  #act(change) {
    this.#meet(); // a run that began a moment ago must not undo what is chosen now
    change();
    this.#render();
  }

  #meet() {
    if (!this.#strip.dragging) this.#sight.meet();
  }

  #go(index) {
    this.#travel.playing = false;
    this.#act(() => this.#travel.go(index, this.#sight.manifest));
  }

  #by(count) {
    this.#travel.playing = false;
    this.#act(() => this.#travel.by(count, this.#sight.manifest));
  }

  #toRun(run) {
    if (run) this.#act(() => this.#travel.choose(run.id));
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

  #toggleCompare() {
    this.#act(() => {
      if (this.#travel.other !== null) this.#travel.other = null;
      else this.#travel.compare(this.#source.runs());
    });
  }

  #followOrHold() {
    if (this.#travel.live) this.#travel.toggleLock(this.#sight.manifest);
    else this.#travel.follow();
  }

  #toggleKeys() {
    this.#keys.hidden = !this.#keys.hidden;
    this.#renderTools();
  }

  /** One thing at a time; false if there is nothing to come back from. */
  #back() {
    if (!this.#keys.hidden) this.#toggleKeys();
    else if (this.#stage.zoomed) this.#stage.fit();
    else if (this.#travel.item !== null) this.#act(() => (this.#travel.item = null));
    else if (this.#travel.other !== null) this.#act(() => (this.#travel.other = null));
    else if (this.#full.open) this.#full.toggle();
    else return false;
  }

  /** @param {"save" | "copy" | "openTab"} what is done with what is on the screen; of two runs, with the first one's */
  #take(what) {
    const pane = this.#painted?.panes[0];
    if (pane) this.#taking[what](pane);
  }
}

function describe(picture, words) {
  if ("alt" in picture) picture.alt = words;
  else Object.assign(picture, { role: "img", ariaLabel: words });
}
