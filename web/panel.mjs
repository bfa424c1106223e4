/** The parts of the viewer, laid out, and what is looked at in all of them. */

import { caption, shortSigma } from "./caption.mjs";
import { Compare } from "./compare.mjs";
import { make } from "./elements.mjs";
import { Film } from "./frame-bar.mjs";
import { FullWindow } from "./fullscreen.mjs";
import { Glance } from "./hover-thumbnail.mjs";
import { keysCard } from "./shortcuts.mjs";
import { Line } from "./status-bar.mjs";
import { framesOf, isSilent, nearestStep, pictured, shape, sigmas } from "./manifest.mjs";
import { Runs } from "./run-list.mjs";
import { sceneOf } from "./selection.mjs";
import { Stage } from "./image-pane.mjs";
import { Strip } from "./step-strip.mjs";
import { sizeOf } from "./export.mjs";
import { Telling } from "./messages.mjs";
import { Tools } from "./toolbar.mjs";

/** @typedef {import("./types.mjs").Shown} Shown */

export class Panel {
  /** The slide on the screen, or null. */ painted = null;
  stage;
  strip;
  film;
  telling;
  full;
  keys;
  #sight;
  #source;
  #view;
  #options;
  #runs;
  #compare;
  #glance;
  #line;
  #tools;

  /**
   * @param {Document} document
   * @param {import("./selection.mjs").Sight} sight
   * @param {import("./types.mjs").Source} source
   * @param {import("./types.mjs").View} view read anew each time
   * @param {import("./types.mjs").Options} options
   * @param {import("./image-cache.mjs").Pictures} pictures
   * @param {(address: string) => Promise<HTMLImageElement>} load for pictures that need not be kept
   * @param {Record<string, Function>} does what a person wants, by the names of `viewer.mjs`
   */
  constructor(document, sight, source, view, options, pictures, load, does) {
    this.#sight = sight;
    this.#source = source;
    this.#view = view;
    this.#options = options;
    this.stage = new Stage(document, { pick: does.pick, zoomed: () => this.#showTools() });
    this.strip = new Strip(document, { seek: does.seek, hover: (at) => this.#point(at) });
    this.#runs = new Runs(document, load, (...picture) => source.picture(...picture), { choose: does.choose, compare: does.compare });
    this.#compare = new Compare(document, does.prefer);
    this.film = new Film(document, { toggle: does.roll, seek: does.seekFrame, by: does.byFrames });
    this.#glance = new Glance(document, pictures);
    this.#line = new Line(document, does);
    this.#tools = new Tools(document, does);
    this.telling = new Telling(document);
    this.keys = keysCard(document);
    this.keys.addEventListener("click", () => does.keys());
    const over = (side, ...parts) => make(document, "div", { className: `over ${side}` }, ...parts);
    const { words, note, toast, spoken } = this.telling;
    this.stage.element.append(
      words,
      over("top", note, this.#compare.element, this.#compare.list),
      over("bottom", this.film.element, toast, this.#tools.live, this.#tools.element),
      this.keys,
    );
    this.element = make(document, "div", { className: "viewer", tabIndex: 0, role: "group", ariaLabel: "Steps of a run" });
    this.element.append(this.stage.element, this.strip.element, this.#line.element, this.#runs.element, this.#glance.element, spoken);
    this.full = new FullWindow(document, this.element, does.changed);
  }

  /** Shows what is known of what is looked at, beside the picture. */
  show() {
    const { pair } = this.#sight;
    this.#showWords(pair);
    this.#showStrip(pair);
    this.#showTools();
  }

  /** The row of runs: its pictures are fetched. */
  showRuns() {
    const { run, other } = this.#sight.travel;
    this.#runs.show(this.#source.runs(), run, other);
  }

  /** Puts pictures on the screen. */
  paint(slide, pictures) {
    if (this.painted?.addresses.join() !== slide.addresses.join()) this.film.began();
    this.painted = slide;
    let at = 0;
    const contents = slide.panes.map(({ run, step, addresses }) => {
      const own = pictures.slice(at, (at += addresses.length));
      own.forEach((picture, i) => picture && describe(picture, `Step ${step.index}${own.length > 1 ? `, picture ${i + 1}` : ""}`));
      return { pictures: own, shape: shape(run.manifest) ?? sizeOf(own.find(Boolean)) };
    });
    this.stage.show(contents);
    for (const { run, step } of slide.panes) this.#runs.saw(run, step);
  }

  /** To be called when there is another size for it. */
  layout() {
    this.stage.layout();
    this.strip.layout();
  }

  /** @param {Shown[]} pair */
  #showWords(pair) {
    const [first] = pair;
    const run = first?.run ?? null;
    const own = run !== null && this.painted?.panes[0].run.id === run.id;
    const behind = run !== null && this.painted !== null && this.painted.scene !== sceneOf(pair);
    this.stage.element.classList.toggle("behind", behind);
    this.telling.show(run, own, this.#options.idle);
    const is = { behind, empty: !this.painted, silent: run !== null && isSilent(run, Date.now()), still: this.#options.still };
    this.element.className = ["viewer", run?.state ?? "idle", ...Object.keys(is).filter((name) => is[name])].join(" ");
    const shown = own ? this.painted.panes[0].step : first?.step;
    this.#line.say(run ? caption(run, shown, this.#sight.travel.index === null) : {}, run?.total ?? null);
    const comparing = pair.length > 1;
    this.#compare.element.hidden = this.#compare.list.hidden = !comparing;
    this.stage.mode = comparing && this.painted?.panes.length === 2 ? this.#view.compare : "one";
    this.stage.smooth = this.#view.smooth;
    if (comparing) this.#compare.show(this.#view, pair);
  }

  /** @param {Shown[]} pair */
  #showStrip([first]) {
    const run = first?.run;
    const manifest = run?.manifest ?? null;
    const last = manifest?.steps.at(-1)?.index ?? 0;
    const total = Math.max(run?.total ?? manifest?.sampler?.steps ?? 0, last, run?.index ?? 0);
    const at = first?.step?.index ?? null;
    const sigma = first?.step?.sigma == null ? "" : `, sigma ${shortSigma(first.step.sigma)}`;
    const text = at === null ? "" : `step ${at} of ${total}${sigma}`;
    const steps = pictured(manifest).map(({ index }) => index);
    this.strip.show({ total, sigmas: sigmas(manifest, total), steps, done: Math.max(run?.index ?? 0, last), at, text });
    this.strip.element.classList.toggle("failed", run?.state === "failed");
  }

  #showTools() {
    const { travel, extent, rolling, pair } = this.#sight;
    const [first] = pair;
    const [newest] = this.#source.runs();
    const still = this.#options.still === true;
    this.#tools.show({
      which: travel.item === null || extent.items < 2 ? "" : `${travel.item + 1} / ${extent.items}`,
      count: this.painted?.panes[0].addresses.length ?? 0,
      zoomed: this.stage.zoomed,
      smooth: this.#view.smooth,
      locked: travel.locked,
      still,
      full: this.full.open,
      keys: !this.keys.hidden,
    });
    this.#tools.showLive(travel, newest, !still && newest?.state === "running" && !newest.gone && !isSilent(newest, Date.now()));
    this.#line.show({ playing: travel.playing, playable: pictured(first?.run.manifest).length > 1, speed: this.#view.speed });
    this.film.show(extent, { all: first?.step ? framesOf(first) : 1, at: this.painted?.frame ?? 0, rolling });
  }

  /** @param {{index: number, x: number} | null} at which step of the strip is pointed at */
  #point(at) {
    const [first] = this.#sight.pair;
    const step = at && nearestStep(pictured(first?.run.manifest), at.index);
    if (!step) return this.#glance.hide();
    const [address] = this.#sight.addresses(first.run, step);
    this.#glance.show({ run: first.run, step }, address, { x: at.x, top: this.strip.element.offsetTop, width: this.element.clientWidth });
  }
}

function describe(picture, words) {
  if ("alt" in picture) picture.alt = words;
  else Object.assign(picture, { role: "img", ariaLabel: words });
}
