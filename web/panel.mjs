/** Lays out the parts of the viewer and shows the selection in all of them. */

import { ActionMenu } from "./action-menu.mjs";
import { caption, formatSigma, notFiniteLabel, shortTexts } from "./caption.mjs";
import { changes, formatChange, settledStep } from "./change.mjs";
import { CompareBar } from "./compare.mjs";
import { create } from "./elements.mjs";
import { DragOut } from "./drag-out.mjs";
import { imageSize } from "./export.mjs";
import { FiguresCard } from "./figures.mjs";
import { FilmStrip } from "./film-strip.mjs";
import { FrameBar } from "./frame-bar.mjs";
import { Fullscreen } from "./fullscreen.mjs";
import { HoverThumbnail } from "./hover-thumbnail.mjs";
import { ImagePane } from "./image-pane.mjs";
import { t } from "./language.mjs";
import { finalSize, frameCount, hasBoth, isSilent, nearestStep, picturedSteps, sigmas, stepFile, stepTotal } from "./manifest.mjs";
import { Messages } from "./messages.mjs";
import { ProgressLine } from "./progress-line.mjs";
import { RunList } from "./run-list.mjs";
import { RunControl } from "./run-control.mjs";
import { pairKey } from "./selection.mjs";
import { shortcutsCard } from "./shortcuts.mjs";
import { StatusBar } from "./status-bar.mjs";
import { StepStrip } from "./step-strip.mjs";
import { TruthCurve } from "./truth.mjs";
import { Toolbar } from "./toolbar.mjs";

/** @typedef {import("./types.mjs").Run} Run @typedef {import("./types.mjs").ShownStep} ShownStep */
/** @typedef {import("./types.mjs").ManifestStep} ManifestStep @typedef {import("./image-cache.mjs").Picture} Picture */
/** @typedef {import("./selection.mjs").PictureSet} PictureSet */

export class Panel {
  /** @type {PictureSet | null} the set of pictures on the screen */ painted = null;
  pane;
  strip;
  runList;
  frameBar;
  messages;
  fullscreen;
  shortcuts;
  menu;
  figures;
  filmStrip;
  runControl;
  #selection;
  #source;
  #view;
  #options;
  #compareBar;
  #hoverThumbnail;
  #progress;
  #statusBar;
  #toolbar;
  #dragOut;

  /**
   * @param {Document} document
   * @param {import("./selection.mjs").ViewSelection} selection
   * @param {import("./types.mjs").Source} source
   * @param {import("./types.mjs").View} view read each time
   * @param {import("./types.mjs").ViewerOptions} options
   * @param {import("./image-cache.mjs").ImageCache} images
   * @param {(address: string) => Promise<HTMLImageElement>} load loads a picture without caching it
   * @param {import("./types.mjs").Commands} commands of `viewer.mjs`
   * @param {import("./action-menu.mjs").Actions[]} actions groups of the menu
   */
  constructor(document, selection, source, view, options, images, load, commands, actions) {
    this.#selection = selection;
    this.#source = source;
    this.#view = view;
    this.#options = options;
    this.pane = new ImagePane(document, { pick: commands.selectItem, zoomed: () => this.#showTools() }, (event, at) => this.#drag(event, at));
    this.strip = new StepStrip(document, { seek: commands.goTo, compare: commands.compareStep, hover: (at) => this.#hover(at) });
    this.runList = new RunList(document, load, (...file) => source.picture(...file), commands);
    this.#compareBar = new CompareBar(document, { choose: commands.setView, pin: commands.pin });
    this.frameBar = new FrameBar(document, commands);
    this.#hoverThumbnail = new HoverThumbnail(document, images);
    this.truthCurve = new TruthCurve(document);
    this.#progress = new ProgressLine(document);
    this.filmStrip = new FilmStrip(document, load, commands);
    this.#statusBar = new StatusBar(document, { ...commands, showTruth: () => this.truthCurve.toggle() });
    this.#toolbar = new Toolbar(document, commands);
    this.messages = new Messages(document, source);
    this.shortcuts = shortcutsCard(document);
    this.figures = new FiguresCard(document, () => commands.figures());
    this.shortcuts.addEventListener("click", () => commands.shortcuts());
    this.menu = new ActionMenu(document, actions, (text) => this.messages.showToast(text), () => this.#showTools());
    this.runControl = new RunControl(document, async (...request) => (await source.control?.(...request)) ?? "", (text) => this.messages.showToast(text));
    /** @param {"top" | "bottom"} side @param {HTMLElement[]} parts */
    const over = (side, ...parts) => create(document, "div", { className: `over ${side}` }, ...parts);
    const { placeholder, note, toast, announcement } = this.messages;
    this.pane.element.append(
      placeholder,
      over("top", note, this.#compareBar.element, this.#compareBar.differences),
      over("bottom", this.frameBar.element, toast, this.#toolbar.live, this.runControl.element, this.#toolbar.element),
      this.figures.element,
      this.menu.element,
      this.shortcuts,
    );
    this.element = create(document, "div", { className: "viewer", tabIndex: 0, role: "group", ariaLabel: t("Steps of a run") });
    this.element.append(this.pane.element, this.#progress.element, this.strip.element, this.truthCurve.element, this.#statusBar.element, this.filmStrip.element, this.runList.element, this.#hoverThumbnail.element, announcement);
    if (options.footer) this.element.append(options.footer);
    this.#dragOut = new DragOut(this.element);
    this.fullscreen = new Fullscreen(document, this.element, commands.render);
  }

  /** @param {DragEvent} event @param {number} at */
  #drag(event, at) {
    const shown = this.painted?.panes[0];
    if (shown) this.#dragOut.start(event, shown, at);
    else event.preventDefault();
  }

  /** Updates all parts but the pictures and the list of runs. */
  show() {
    const { pair } = this.#selection;
    this.#showTexts(pair);
    this.#showStrip(pair);
    this.#showTools();
  }

  /** Updates the list of runs, and loads its pictures. */
  showRuns() {
    const { run, other, pin, index } = this.#selection.navigation;
    this.runList.show(this.#source.runs(), run, pin?.run ?? other, index === null);
  }

  /** Puts a set of pictures on the screen. @param {PictureSet} set @param {(Picture | null)[]} images */
  paint(set, images) {
    if (this.painted?.addresses.join() !== set.addresses.join()) this.frameBar.restart();
    this.painted = set;
    let at = 0;
    const contents = set.panes.map(({ run, step, addresses }) => {
      // An element has one place: a picture that is compared with itself needs a copy.
      const own = images.slice(at, (at += addresses.length)).map((image, i) => (image && images.indexOf(image) < at - addresses.length + i ? copyOf(image) : image));
      own.forEach((image, i) => image && describe(image, own.length > 1 ? t("Step {step}, picture {number}", { step: step.index, number: i + 1 }) : t("Step {step}", { step: step.index })));
      return { images: own, size: finalSize(run.manifest) ?? imageSize(own.find(Boolean) ?? null) };
    });
    this.pane.show(contents);
    for (const { run, step } of set.panes) if (step.index >= newestIndex(run)) this.runList.showStep(run, step);
  }

  /** Places all parts; to be called when the size of the element has changed. */
  layout() {
    this.pane.layout();
    this.strip.layout();
    this.truthCurve.layout();
    this.figures.layout();
    this.filmStrip.layout();
    this.runList.layout();
  }

  /** @param {ShownStep[]} pair */
  #showTexts(pair) {
    const [first] = pair;
    const run = first?.run ?? null;
    const ownPicture = run !== null && this.painted?.panes[0].run.id === run.id;
    const behind = run !== null && this.painted !== null && this.painted.key !== pairKey(pair);
    this.pane.element.classList.toggle("behind", behind);
    this.messages.show(run, ownPicture, this.#options.idle);
    const alone = this.#options.still === true && this.#source.runs().length < 2;
    const flags = { behind, empty: !this.painted, silent: run !== null && isSilent(run, Date.now()), alone };
    this.element.className = ["viewer", run?.state ?? "idle", ...Object.entries(flags).flatMap(([name, isOn]) => (isOn ? [name] : []))].join(" ");
    const step = (ownPicture ? this.painted?.panes[0].step : first?.step) ?? null;
    this.#statusBar.setCaption(run ? caption(run, step, this.#selection.navigation.index === null) : {}, run && stepTotal(run), settledStep(run?.manifest ?? null), shortTexts(run?.manifest ?? null));
    const comparing = pair.length > 1;
    this.#compareBar.element.hidden = this.#compareBar.differences.hidden = !comparing;
    this.pane.mode = comparing && this.painted?.panes.length === 2 ? this.#view.compare : "one";
    this.pane.smooth = this.#view.smooth;
    if (comparing) this.#compareBar.show(this.#view, pair, this.#selection.navigation.pin !== null);
  }

  /** @param {ShownStep[]} pair */
  #showStrip([first, second]) {
    const run = first?.run;
    const manifest = run?.manifest ?? null;
    const newest = newestIndex(run);
    const total = (run && stepTotal(run)) ?? newest;
    const at = first?.step?.index ?? null;
    const sigma = first?.step?.sigma == null ? "" : t("sigma {sigma}", { sigma: formatSigma(first.step.sigma) });
    const fault = notFiniteLabel(first?.step ?? null);
    const change = first?.step?.change == null ? "" : t("changed by {change}", { change: formatChange(first.step.change) });
    const text = at === null ? "" : [t("step {step} of {total}", { step: at, total }), sigma, change, fault].filter(Boolean).join(", ");
    const pictured = picturedSteps(manifest);
    const steps = pictured.map(({ index }) => index);
    const faults = pictured.filter((step) => step.not_finite != null).map(({ index }) => index);
    const facts = { sigmas: sigmas(manifest, total), changes: changes(manifest), settled: settledStep(manifest) };
    const other = this.#selection.navigation.pin && second?.run === run ? (second.step?.index ?? null) : null;
    this.strip.show({ total, ...facts, steps, faults, done: newest, at, other, text });
    this.strip.element.classList.toggle("failed", run?.state === "failed");
    this.#progress.show(newest, total, run?.state === "failed");
    this.truthCurve.show(manifest, total);
    this.figures.show(run ?? null, total);
    this.#showFilm(first, pictured, other);
  }

  /** @param {ShownStep | undefined} first @param {ManifestStep[]} pictured @param {number | null} other */
  #showFilm(first, pictured, other) {
    const { run, step = null, item } = first ?? {};
    /** @param {ManifestStep} step */
    const address = (step) => (run ? this.#source.picture(run.id, stepFile(run.manifest, step, item ?? 0, 0) ?? step.files[0], step.at) : "");
    const size = finalSize(run?.manifest ?? null) ?? { width: 1, height: 1 };
    this.filmStrip.show({ key: run?.id ?? "", steps: this.fullscreen.open ? pictured : [], at: step?.index ?? null, other, size, address });
  }

  #showTools() {
    const { navigation, layout, framesPlaying, pair } = this.#selection;
    const [first] = pair;
    const [newest] = this.#source.runs();
    const still = this.#options.still === true;
    this.#toolbar.show({
      item: navigation.item === null || layout.items < 2 ? "" : `${navigation.item + 1} / ${layout.items}`,
      count: this.painted?.panes[0].addresses.length ?? 0,
      zoomed: this.pane.zoomed,
      smooth: this.#view.smooth,
      both: hasBoth(first?.step ?? null),
      noisy: this.#view.latents === "noisy",
      locked: navigation.locked,
      still,
      fullscreen: this.fullscreen.open,
      shortcuts: !this.shortcuts.hidden,
      menu: this.menu.open,
    });
    this.#toolbar.showLive(navigation, newest, !still && newest?.state === "running" && !newest.gone && !isSilent(newest, Date.now()));
    this.runControl.show(this.#source.control ? first?.run : undefined, navigation.index);
    this.#statusBar.show({ playing: navigation.playing, playable: picturedSteps(first?.run.manifest).length > 1, speed: this.#view.speed });
    this.frameBar.show(layout, { total: first?.step ? frameCount({ run: first.run, step: first.step }) : 1, at: this.painted?.frame ?? 0, playing: framesPlaying, fps: first?.run.manifest?.picture?.fps ?? null });
  }

  /** @param {{index: number, x: number} | null} at the step of the strip under the pointer */
  #hover(at) {
    const [first] = this.#selection.pair;
    if (!at || !first) return this.#hoverThumbnail.hide();
    const { run } = first;
    const place = { x: at.x, top: this.strip.element.offsetTop, width: this.element.clientWidth };
    if (at.index > newestIndex(run)) return this.#hoverThumbnail.showMissing(run, at.index, place);
    const step = nearestStep(picturedSteps(run.manifest), at.index);
    if (!step) return this.#hoverThumbnail.hide();
    const [address] = this.#selection.addresses({ ...first, step });
    this.#hoverThumbnail.show({ ...first, step }, address, place);
  }
}

/** A copy of an image or a canvas. @param {Picture} image */
function copyOf(image) {
  const copy = /** @type {Picture} */ (image.cloneNode());
  if ("getContext" in copy) copy.getContext("2d")?.drawImage(image, 0, 0);
  return copy;
}

/** The index of the newest step of a run; 0 before the first one. @param {Run | undefined} run */
function newestIndex(run) {
  return Math.max(run?.index ?? 0, run?.manifest?.steps.at(-1)?.index ?? 0);
}

/** Sets the accessible description of an image or a canvas. @param {Picture} image @param {string} text */
function describe(image, text) {
  if ("alt" in image) image.alt = text;
  else Object.assign(image, { role: "img", ariaLabel: text });
}
