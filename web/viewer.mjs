/** The viewer: one element in which a person travels through the steps of runs, wherever those come from. */

import { caption, inPlaceOfPicture, lastNote, shortSigma } from "./caption.mjs";
import { Compare } from "./compare.mjs";
import { button, make, onDrag, pointIn, reface } from "./elements.mjs";
import { canTakeApart, frameAddress, frameOf, Frames } from "./frames.mjs";
import { keysCard } from "./keys.mjs";
import { extent, fileOf, isSilent, pictured, shape, sigmas } from "./manifest.mjs";
import { loadPicture, Pictures } from "./pictures.mjs";
import { Projector } from "./projector.mjs";
import { Runs } from "./runs.mjs";
import { Stage } from "./stage.mjs";
import { Strip } from "./strip.mjs";
import { STYLE } from "./style.mjs";
import { sizeOf, Taking } from "./taking.mjs";
import { Travel } from "./travel.mjs";

/**
 * What the viewer knows of the world. ComfyUI's is made of the store, the offline page's of the manifest within it.
 *
 * @typedef {object} Source
 * @property {() => Run[]} runs newest first; called often, so it answers from memory. The same run is the same object
 *   or has the same id; what has changed is told by `onChange`
 * @property {(id: string) => Promise<Manifest | null>} manifest as of now, read anew; null: cannot be had. Afterwards the
 *   run in `runs()` has it, too. Asked when a run is looked at whose `manifest` is null, or whose `stale` is true
 * @property {(id: string, file: string, at: number | null) => string} picture an address for `img.src`. A step that is
 *   written twice has the same file twice: where pictures are cached for good, `at` must be in the address
 * @property {(listener: () => void) => (() => void)} onChange calls `listener` after each change until what it
 *   returned is called
 *
 * @typedef {object} Run
 * @property {string} id
 * @property {"running" | "finished" | "interrupted" | "failed"} state
 * @property {number | null} index the newest step that is known to exist, counted from 1
 * @property {number | null} total how many steps there will be
 * @property {number} started milliseconds since 1970; Infinity until it is known
 * @property {number | null} [written] when what is known of it was written, milliseconds since 1970; left out where its
 *   end would be told
 * @property {boolean} gone its pictures can be had no more; what was loaded stays
 * @property {Manifest | null} manifest as last read
 * @property {boolean} [stale] there is more than `manifest` says; a source that cannot know leaves it out
 * @property {{file: string, at: number | null} | null} [thumbnail] for the row of runs while there is no manifest
 *
 * @typedef {object} Manifest `run.json`; what is not known is null, keys that are not known are left alone
 * @property {string} id
 * @property {string} state as of a run
 * @property {string} started ISO 8601
 * @property {number | null} seconds
 * @property {string | null} space
 * @property {{name: string, kind: string, scale: number, source: string} | null} decoder
 * @property {{steps, sigmas, seed, cfg, name, scheduler, prompt?: string | null}} sampler
 * @property {{width, height, shown_width, shown_height, items, frames, fps} | null} picture `shown_...` is the size of
 *   the final image, which gives the box its aspect; `items` of a batch; `frames` of a video, played at `fps`
 * @property {ManifestStep[]} steps in the order of `index`
 * @property {string[]} notes
 *
 * @typedef {object} ManifestStep
 * @property {number} index counted from 1
 * @property {number | null} sigma
 * @property {number | null} at seconds since the start of the run
 * @property {string[]} files none: a step without a picture. Else in item-major order:
 *   `items * frames` of them: the frame `f` of the item `i` is `files[i * frames + f]`;
 *   `items` of them: one for each item; of a video each is an animated WebP;
 *   fewer: the first items. A step with its own `frames` has that many instead of `picture.frames`
 * @property {number} [frames]
 * @property {number | null} [decode_ms]
 */

/**
 * How a person likes to look. A host may keep it (`options.onView`) and give it back (`options.view`); what is left out
 * is as in `VIEW`.
 *
 * @typedef {object} View
 * @property {number} speed steps a second when playing
 * @property {boolean} smooth enlarge smoothly; false: nearest pixel
 * @property {boolean} follow a run that begins is looked at, unless the view is locked
 * @property {"wipe" | "side" | "difference"} compare
 * @property {"step" | "sigma"} lock what two compared runs have in common
 *
 * @typedef {object} Options
 * @property {Partial<View>} [view]
 * @property {(changed: Partial<View>) => void} [onView] called with what the person has changed of it
 * @property {boolean} [wheelNeedsFocus] leave the wheel to the page around until somebody has clicked into the viewer
 * @property {string} [idle] what to say, and how to begin, while there is no run
 * @property {boolean} [still] there is one run, and nothing comes: neither steps nor runs
 */

/** @type {View} */
export const VIEW = { speed: 8, smooth: true, follow: true, compare: "wipe", lock: "step" };
export const SPEEDS = [1, 2, 4, 8, 16, 24];

const AHEAD = 2; // pictures that are loaded before they are asked for
const FAR = 5;
const TOAST_MS = 1600;
const FPS = 16; // of a video that does not say
const FRAMES_AHEAD = 8; // of an animated picture that is taken apart
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
  #travel = new Travel();
  #pictures;
  #projector;
  #peek; // for what is pointed at
  #taking;
  #stage;
  #strip;
  #runs;
  #compare;
  #parts = {};
  #root;
  #visible = false;
  #asked = new Map(); // manifests that are on their way or could not be had, by id of the run
  #painted = null; // the slide on the screen
  #hovered = null;
  #framing = null; // whether a video plays; null: as the person likes motion
  #frames = null; // takes animated pictures apart; null: this browser cannot
  #paintedAt = 0;
  #timers = {};
  #leave = [];

  /**
   * @param {Document} document where `element` is going to be
   * @param {Source} source
   * @param {Options} [options]
   */
  constructor(document, source, options = {}) {
    this.#document = document;
    this.#source = source;
    this.#options = options;
    this.#view = { ...VIEW, ...options.view };
    const window = document.defaultView;
    if (canTakeApart(window)) this.#frames = new Frames(window);
    const load = (address) => loadPicture(address, document);
    this.#pictures = new Pictures((address) => this.#load(address, load));
    this.#taking = new Taking(document, this.#pictures, (text) => this.#toast(text));
    this.#projector = new Projector(this.#pictures, (slide, pictures) => this.#paint(slide, pictures));
    this.#peek = new Projector(this.#pictures, (slide, [picture]) => this.#bubble(slide, picture));
    this.#stage = new Stage(document, { pick: (item) => this.#act(() => (this.#travel.item = item)), zoomed: () => this.#renderTools() });
    this.#strip = new Strip(document, { seek: (index) => this.#go(index), hover: (at) => this.#hover(at) });
    this.#runs = new Runs(document, load, (...picture) => source.picture(...picture), {
      choose: (id, other) => this.#act(() => (other ? this.#travel.compare(source.runs(), id) : this.#travel.choose(id))),
      compare: () => this.#toggleCompare(),
    });
    this.#compare = new Compare(document, (change) => this.#prefer(change));
    this.#build();
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
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
  }

  #build() {
    const document = this.#document;
    const part = (tag, name, properties = {}, ...children) =>
      (this.#parts[name] = make(document, tag, { className: name, ...properties }, ...children));
    const tool = (name, face, say, onClick, more = "") => (this.#parts[name] = button(document, face, say, onClick, more));
    const tools = part("div", "tools", { className: "tools fading", role: "toolbar", ariaLabel: "Picture" });
    tools.append(
      tool("back", "grid", "All pictures of the batch (Esc)", () => this.#act(() => (this.#travel.item = null))),
      tool("one", "1:1", "One to one (Z)", () => this.#stage.toggleOneToOne()),
      tool("pixels", "pixels", "", () => this.#prefer({ smooth: !this.#view.smooth })),
      tool("save", "save", "Save this picture (S)", () => this.#take("save")),
      tool("copy", "copy", "Copy this picture", () => this.#take("copy"), "rare"),
      tool("tab", "tab", "Open this picture in a tab", () => this.#take("openTab"), "rare"),
      tool("hold", "lock", "", () => this.#act(() => this.#travel.toggleLock(this.#manifest))),
      tool("help", "?", "Keys (?)", () => this.#toggleKeys()),
      tool("full", "full", "Full window (F)", () => this.#toggleFull()),
    );
    const live = tool("live", "live", "", () => this.#act(() => this.#followOrHold()), "live");
    this.#parts.keys = keysCard(document);
    this.#parts.keys.addEventListener("click", () => this.#toggleKeys());
    const note = part("div", "note", {}, part("span", "said"), button(document, "close", "Put this note away", () => this.#dismiss()));
    const rail = part("div", "rail", { tabIndex: 0, role: "slider", ariaLabel: "Frame" });
    const frames = part("div", "frames", {}, tool("roll", "pause", "", () => this.#toggleFrames()), rail, part("span", "frame"));
    this.#stage.element.append(
      part("div", "words"),
      make(document, "div", { className: "over top" }, note, this.#compare.element, this.#compare.list),
      make(document, "div", { className: "over bottom" }, frames, part("div", "toast"), live, tools),
      this.#parts.keys,
    );
    const line = part("div", "caption", {}, tool("play", "play", "Play (Space)", () => this.#togglePlay(), "play"));
    const parts = make(document, "div", { className: "parts" });
    for (const name of ["step", "sigma", "time", "maker", "rate", "size", "decode"]) parts.append(part("span", name));
    line.append(parts, tool("speed", "8/s", "", (event) => this.#faster(event.shiftKey ? -1 : 1), "speed fading"));
    const bubble = part("div", "bubble", { hidden: true }, part("canvas", "peek"), part("div", "where"));
    const spoken = part("div", "spoken", { role: "status" });
    this.#root = make(document, "div", { className: "viewer", tabIndex: 0, role: "group", ariaLabel: "Steps of a run" });
    this.#root.append(this.#stage.element, this.#strip.element, line, this.#runs.element, bubble, spoken);
    /** Fills what it is given, at least 280 px high; everything within is in its shadow root. @type {HTMLElement} */
    this.element = make(document, "div");
    this.#parts.dialog = make(document, "dialog", { ariaLabel: "Steps of a run" });
    const style = make(document, "style", { textContent: STYLE });
    this.element.attachShadow({ mode: "open" }).append(style, this.#root, this.#parts.dialog);
  }

  #listen() {
    const root = this.#root;
    this.#leave.push(this.#source.onChange(() => this.#render()));
    root.addEventListener("keydown", (event) => this.#key(event));
    // A button that was clicked keeps the keys of the viewer, but not the space bar for itself.
    root.addEventListener("click", (event) => event.detail > 0 && event.target.closest("button") && root.focus({ preventScroll: true }));
    this.#stage.element.addEventListener("wheel", (event) => {
      const focused = this.element.getRootNode().activeElement === this.element || this.#full;
      if ((this.#options.wheelNeedsFocus && !focused) || !this.#painted) return;
      event.preventDefault();
      event.stopPropagation();
      this.#stage.wheel(event);
    }, { passive: false });
    const { rail, dialog } = this.#parts;
    const seek = (event) => {
      this.#framing = false;
      this.#toFrame(Math.floor((pointIn(rail, event).x / rail.offsetWidth) * this.#extent().frames));
    };
    onDrag(rail, seek, seek);
    rail.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      this.#framing = false;
      this.#toFrame(this.#travel.frame + by);
    });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => this.#leaveFull());
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

  // What is looked at

  get #pair() {
    const runs = this.#source.runs();
    const of = (id) => runs.find((run) => run.id === id) ?? null;
    const a = of(this.#travel.run);
    const b = of(this.#travel.other);
    const step = this.#travel.step(a?.manifest);
    const pair = a ? [{ run: a, step }] : [];
    if (a && b) pair.push({ run: b, step: this.#travel.match(step, b.manifest, this.#view.lock) });
    return pair;
  }

  #slide(pair, frame = this.#travel.frame) {
    const panes = pair.map(({ run, step }) => ({ run, step, addresses: step && isWhole(run) ? this.#addresses(run, step, frame) : [] }));
    if (!panes.length || panes.some(({ addresses }) => !addresses.length)) return null;
    const addresses = panes.flatMap((pane) => pane.addresses);
    return { scene: pair.map(({ run }) => run.id).join(), addresses, panes, frame, end: this.#travel.index === null };
  }

  #addresses(run, step, frame) {
    const { items, animated } = extent(run.manifest, step);
    const whole = !animated || this.#rolling || !this.#frames;
    const { item } = this.#travel;
    const wanted = item === null || item >= items ? Array.from({ length: items }, (_, i) => i) : [item];
    const files = wanted.map((item) => fileOf(run.manifest, step, item, frame)).filter(Boolean);
    const addresses = files.map((file) => this.#source.picture(run.id, file, step.at));
    return whole ? addresses : addresses.map((address) => frameAddress(address, frame));
  }

  /** Of the first picture that is looked at. `apart`: its frames can be had one by one, although they are in one file. */
  #extent() {
    const [first] = this.#pair;
    if (!first?.step) return { items: 1, frames: 1, animated: false, apart: false };
    const found = extent(first.run.manifest, first.step);
    const apart = found.animated && this.#frames !== null;
    return apart && !this.#rolling ? { ...found, frames: framesOf(first), animated: false, apart } : { ...found, apart };
  }

  async #load(address, load) {
    const one = frameOf(address);
    if (!one) return load(address);
    return (this.#frames ?? new Frames(this.#document.defaultView)).get(one.file, one.frame).catch(() => {
      this.#frames = null; // a browser that takes this kind of picture apart no more than others do: it plays as a whole
      return load(one.file);
    });
  }

  get #manifest() {
    return this.#pair[0]?.run.manifest ?? null;
  }

  // What is to be seen

  #render() {
    this.#meet();
    const pair = this.#pair;
    if (this.#visible) {
      for (const { run } of pair) this.#ask(run);
      const slide = this.#slide(pair);
      this.#projector.want(slide);
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
    if (this.#painted?.addresses.join() !== slide.addresses.join()) this.#paintedAt = Date.now();
    this.#painted = slide;
    let at = 0;
    const contents = slide.panes.map(({ run, step, addresses }) => {
      const own = pictures.slice(at, (at += addresses.length));
      own.forEach((picture, i) => picture && describe(picture, `Step ${step.index}${own.length > 1 ? `, picture ${i + 1}` : ""}`));
      const first = own.find(Boolean);
      return { pictures: own, shape: shape(run.manifest) ?? sizeOf(first) };
    });
    this.#stage.show(contents);
    for (const { run, step } of slide.panes) this.#runs.saw(run, step);
    this.#render();
    this.#preload();
  }

  #preload() {
    const pair = this.#pair;
    const steps = pictured(pair[0]?.run.manifest);
    const at = steps.indexOf(pair[0]?.step);
    if (at < 0) return;
    const { frames, apart } = this.#extent();
    const addresses = [];
    for (let frame = 1; frame < (apart ? Math.min(frames, FRAMES_AHEAD) : frames); frame++) addresses.push(...(this.#slide(pair, (this.#travel.frame + frame) % frames)?.addresses ?? []));
    if (this.#travel.index !== null) {
      for (let ahead = 1; ahead <= AHEAD; ahead++) {
        const step = steps[at + ahead * this.#travel.direction];
        if (step) addresses.push(...this.#addresses(pair[0].run, step, this.#travel.frame));
        if (step && pair[1]) {
          const match = this.#travel.match(step, pair[1].run.manifest, this.#view.lock);
          if (match) addresses.push(...this.#addresses(pair[1].run, match, this.#travel.frame));
        }
      }
    }
    for (const address of addresses) this.#pictures.get(address);
  }

  #renderWords(pair) {
    const { words, said, note, spoken, ...parts } = this.#parts;
    const [first] = pair;
    const run = first?.run ?? null;
    const own = run !== null && this.#painted?.panes[0].run.id === run.id;
    const shown = own ? this.#painted.panes[0].step : null;
    const behind = run !== null && this.#painted !== null && this.#painted.scene !== pair.map(({ run }) => run.id).join();
    words.textContent = own ? "" : inPlaceOfPicture(run, this.#options.idle);
    this.#stage.element.classList.toggle("behind", behind);
    const told = own ? lastNote(run) : lastNote(run?.gone ? null : run);
    said.textContent = said.title = told && told !== this.#parts.dismissed ? told : "";
    note.classList.toggle("failed", run?.state === "failed");
    const is = { behind, empty: !this.#painted, silent: run !== null && isSilent(run, Date.now()), still: this.#options.still };
    this.#root.className = ["viewer", run?.state ?? "idle", ...Object.keys(is).filter((name) => is[name])].join(" ");
    const texts = run ? caption(run, shown ?? first.step, this.#travel.index === null) : {};
    const names = ["step", "sigma", "time", "maker", "rate", "size", "decode"];
    for (const name of names) parts[name].textContent = texts[name] ?? "";
    parts.step.style.minWidth = texts.step ? `${String(run.total ?? "").length * 2 + 5.2}ch` : "";
    parts.step.parentNode.title = names.map((name) => texts[name]).filter(Boolean).join("  ·  ");
    const state = run ? `Run ${run.state}` : "";
    if (spoken.textContent !== state) spoken.textContent = state; // not each step: a screen reader would never be silent
    const comparing = pair.length > 1;
    this.#compare.element.hidden = this.#compare.list.hidden = !comparing;
    this.#stage.mode = comparing && this.#painted?.panes.length === 2 ? this.#view.compare : "one";
    this.#stage.smooth = this.#view.smooth;
    if (comparing) this.#compare.show(this.#view, pair);
  }

  #renderStrip(pair) {
    const [first] = pair;
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
    const document = this.#document;
    const { live, hold, pixels, one, play, speed, back, full, frames, rail, frame, roll } = this.#parts;
    const travel = this.#travel;
    const [first] = this.#pair;
    const runs = this.#source.runs();
    const goesOn = !this.#options.still && runs[0]?.state === "running" && !runs[0].gone && !isSilent(runs[0], Date.now());
    const is = travel.locked ? "locked" : !travel.live ? "held" : goesOn ? "live" : "newest";
    const say = { locked: "Held, whatever comes; let go (L)", held: goesOn ? "To the newest step" : "To the newest run", live: "The newest step is shown; hold it (L)", newest: "" };
    live.dataset.is = is;
    reface(document, live, travel.locked ? "held" : goesOn ? "live" : "newest", say[is]);
    // Where nothing comes there is nothing to go back to that the strip does not have.
    live.hidden = !first || is === "newest" || (is === "held" && !goesOn && travel.run === runs[0]?.id);
    reface(document, hold, "lock", travel.locked ? "Let go of this step (L)" : "Hold this step, whatever comes (L)");
    hold.ariaPressed = String(travel.locked);
    hold.hidden = this.#options.still === true;
    reface(document, pixels, this.#view.smooth ? "pixels" : "smooth", this.#view.smooth ? "Show pixels" : "Enlarge smoothly");
    reface(document, one, this.#stage.zoomed ? "fit" : "1:1", this.#stage.zoomed ? "Fit (Z)" : "One to one (Z)");
    reface(document, play, travel.playing ? "pause" : "play", travel.playing ? "Pause (Space)" : "Play (Space)");
    play.classList.toggle("playing", travel.playing);
    play.disabled = pictured(first?.run.manifest).length < 2;
    reface(document, speed, `${this.#view.speed}/s`, `${this.#view.speed} steps a second; click for another speed`);
    reface(document, full, this.#full ? "window" : "full", this.#full ? "Back to the window (F)" : "Full window (F)");
    const { items, frames: count, animated, apart } = this.#extent();
    back.hidden = travel.item === null || items < 2;
    back.dataset.of = back.hidden ? "" : `${travel.item + 1} / ${items}`;
    frames.hidden = count < 2 && !animated;
    frames.classList.toggle("whole", animated && !apart);
    const shown = this.#painted?.frame ?? 0;
    frames.style.setProperty("--frame", animated || count < 2 ? 1 : shown / (count - 1));
    frame.textContent = animated ? `${framesOf(first)} frames` : `${shown + 1} / ${count}`;
    roll.hidden = animated && !apart;
    reface(document, roll, this.#rolling ? "pause" : "play", this.#rolling ? "Hold this frame" : "Play the frames");
    rail.tabIndex = animated && !apart ? -1 : 0;
    Object.assign(rail, { ariaValueMin: "1", ariaValueMax: String(count), ariaValueNow: String(shown + 1) });
  }

  // Time

  get #rolling() {
    const calm = this.#document.defaultView.matchMedia?.("(prefers-reduced-motion: reduce)").matches;
    return this.#framing ?? !calm;
  }

  /** Each timer begins when there is something to do and what went before is on the screen. */
  #keepTime() {
    const { fps } = this.#manifest?.picture ?? {};
    const shown = this.#painted && this.#projector.idle;
    const awaited = this.#source.runs().some((run) => run.state === "running" && run.written != null);
    this.#timer("silence", this.#visible && awaited, true, LISTEN_MS, () => this.#render());
    this.#timer("play", this.#visible && this.#travel.playing, shown, 1000 / this.#view.speed, () => {
      this.#travel.tick(this.#manifest);
      this.#render();
    });
    this.#timer("roll", this.#visible && this.#rolling && !this.#extent().apart && this.#extent().frames > 1, shown, 1000 / (fps || FPS), () => {
      const { frames } = this.#extent();
      const next = this.#slide(this.#pair, (this.#travel.frame + 1) % frames);
      if (next?.addresses.every((address) => this.#pictures.ready(address))) this.#toFrame((this.#travel.frame + 1) % frames);
      else this.#preload();
    });
  }

  #timer(name, wanted, ready, ms, then) {
    if (!wanted) {
      clearTimeout(this.#timers[name]);
      this.#timers[name] = undefined;
    } else if (this.#timers[name] === undefined) {
      this.#timers[name] = setTimeout(() => {
        this.#timers[name] = undefined;
        if (ready) then();
        this.#keepTime();
      }, ms);
    }
  }

  #toFrame(frame) {
    const { frames } = this.#extent();
    this.#travel.frame = Math.min(Math.max(frame, 0), frames - 1);
    this.#render();
  }

  #toggleFrames() {
    if (this.#rolling && this.#extent().apart) this.#travel.frame = this.#guessFrame();
    this.#framing = !this.#rolling;
    this.#render();
  }

  /** No browser tells which frame of an animated picture it shows; it has been playing since it was put up. */
  #guessFrame() {
    const [first] = this.#pair;
    const passed = ((Date.now() - this.#paintedAt) / 1000) * (first.run.manifest.picture?.fps || FPS);
    return Math.floor(passed) % framesOf(first);
  }

  #toggleKeys() {
    this.#parts.keys.hidden = !this.#parts.keys.hidden;
    this.#parts.help.ariaExpanded = String(!this.#parts.keys.hidden);
  }

  // What a person does

  #act(change) {
    this.#meet(); // a run that began a moment ago must not undo what is chosen now
    change();
    this.#render();
  }

  #meet() {
    if (!this.#strip.dragging) this.#travel.meet(this.#source.runs(), this.#view.follow);
  }

  #go(index) {
    this.#travel.playing = false;
    this.#act(() => this.#travel.go(index, this.#manifest));
  }

  #by(count) {
    this.#travel.playing = false;
    this.#act(() => this.#travel.by(count, this.#manifest));
  }

  #prefer(changed) {
    Object.assign(this.#view, changed);
    this.#options.onView?.(changed);
    this.#render();
  }

  #togglePlay() {
    this.#act(() => this.#travel.togglePlay(this.#manifest));
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
    if (this.#travel.live) this.#travel.toggleLock(this.#manifest);
    else this.#travel.follow();
  }

  #dismiss() {
    this.#act(() => (this.#parts.dismissed = lastNote(this.#pair[0]?.run)));
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.closest?.("button, summary");
    const back = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const keys = {
      Home: () => this.#act(() => ((this.#travel.playing = false), this.#travel.first(this.#manifest))),
      End: () => this.#act(() => ((this.#travel.playing = false), (this.#travel.locked = false), this.#travel.end())),
      l: () => this.#act(() => this.#travel.toggleLock(this.#manifest)),
      c: () => this.#toggleCompare(),
      f: () => this.#toggleFull(),
      z: () => this.#stage.toggleOneToOne(),
      s: () => this.#take("save"),
      "?": () => this.#toggleKeys(),
      Escape: () => this.#back(),
    };
    const run = this.#source.runs()[Number(key) - 1];
    if (back) this.#by(back * (event.shiftKey ? FAR : 1));
    else if (key === " " && !onButton) event.repeat || this.#togglePlay();
    else if (/^[1-9]$/.test(key)) run && this.#act(() => this.#travel.choose(run.id));
    else if (!keys[key] || keys[key]() === false) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** One thing at a time; false if there is nothing to come back from. */
  #back() {
    if (!this.#parts.keys.hidden) this.#toggleKeys();
    else if (this.#stage.zoomed) this.#stage.fit();
    else if (this.#travel.item !== null) this.#act(() => (this.#travel.item = null));
    else if (this.#travel.other !== null) this.#act(() => (this.#travel.other = null));
    else if (this.#full) this.#toggleFull();
    else return false;
  }

  #hover(at) {
    this.#hovered = at;
    const { bubble, where, peek } = this.#parts;
    const [first] = this.#pair;
    const step = at && this.#travelTo(at.index);
    bubble.hidden = !step;
    if (!step) return this.#peek.want(null);
    const { width, height } = shape(first.run.manifest) ?? { width: 1, height: 1 };
    if (peek.dataset.shape !== `${width} ${height}`) {
      peek.dataset.shape = `${width} ${height}`;
      Object.assign(peek, { width: 200, height: Math.round(Math.min(300, (200 * height) / width)) });
    }
    where.textContent = `${step.index}${step.sigma == null ? "" : ` · σ ${shortSigma(step.sigma)}`}`;
    bubble.style.left = `${Math.min(Math.max(at.x - bubble.offsetWidth / 2, 4), this.#root.clientWidth - bubble.offsetWidth - 4)}px`;
    bubble.style.setProperty("--strip-top", `${this.#strip.element.offsetTop}px`);
    const [address] = this.#addresses(first.run, step, this.#travel.frame);
    this.#peek.want({ scene: first.run.id, addresses: [address], index: step.index });
  }

  #travelTo(index) {
    const other = new Travel();
    other.index = index;
    return other.step(this.#manifest);
  }

  #bubble(slide, picture) {
    if (!this.#hovered || !picture) return;
    const { peek } = this.#parts;
    const context = peek.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, peek.width, peek.height);
  }

  // The picture elsewhere

  get #full() {
    return this.#parts.dialog.open;
  }

  /** The top layer of the page: whatever zooms or clips the element does not reach there. */
  #toggleFull() {
    const { dialog } = this.#parts;
    if (dialog.open) return dialog.close();
    dialog.append(this.#root);
    dialog.showModal();
    this.#root.focus();
    this.#render();
  }

  #leaveFull() {
    this.#parts.dialog.before(this.#root);
    this.#root.focus({ preventScroll: true });
    this.#render();
  }

  /** @param {"save" | "copy" | "openTab"} what is done with the picture on the screen */
  #take(what) {
    const pane = this.#painted?.panes[0];
    if (pane) this.#taking[what]({ ...pane, address: pane.addresses[0] });
  }

  #toast(text) {
    const { toast } = this.#parts;
    toast.textContent = text;
    toast.classList.add("shown");
    clearTimeout(this.#timers.toast);
    this.#timers.toast = setTimeout(() => toast.classList.remove("shown"), TOAST_MS);
  }
}

/** The first steps are told before anybody has read how large they are: a picture without its size would move things. */
function isWhole(run) {
  return run.manifest.picture !== null || !run.stale;
}

/** How many frames a step's pictures have. @param {{run: Run, step: ManifestStep}} shown */
function framesOf({ run, step }) {
  return step.frames ?? run.manifest.picture?.frames ?? 1;
}

function describe(picture, words) {
  if ("alt" in picture) picture.alt = words;
  else Object.assign(picture, { role: "img", ariaLabel: words });
}
