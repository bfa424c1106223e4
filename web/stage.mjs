/** The picture with a line below it. */

import { caption, inPlaceOfPicture, lastNote } from "./caption.mjs";

export const MIN_HEIGHT_PX = 280;
export const LINE_HEIGHT_PX = 28; // with the bar above it

// A shadow root: the host's style sheets (Tailwind's `img { height: auto }`) stop at it, its variables do not.
const STYLE = `
  :host { display: block; box-sizing: border-box; width: 100%; height: 100%; min-height: ${MIN_HEIGHT_PX}px; }
  .stage {
    display: flex; flex-direction: column; height: 100%; min-height: inherit; overflow: hidden;
    background: var(--safelight-ground, #17181a); border-radius: var(--safelight-radius, 8px);
    color: var(--safelight-text, #d6d7d9); user-select: none;
    font: 12px/26px var(--font-inter, Inter), system-ui, sans-serif; font-variant-numeric: tabular-nums;
  }
  .frame { position: relative; flex: 1; min-height: 0; }
  .frame > * { position: absolute; inset: 0; }
  img { width: 100%; height: 100%; object-fit: contain; }
  .behind img { opacity: 0.35; transition: opacity 0.2s 0.3s; }
  .words {
    display: grid; place-content: center; padding: 0 24px; text-align: center; text-wrap: balance; line-height: 1.5;
    color: var(--safelight-quiet, #8d9095); animation: appear 0.2s 0.4s backwards;
  }
  .words:empty { display: none; }
  @keyframes appear { from { opacity: 0; } }
  .note {
    top: auto; padding: 5px 10px; line-height: 1.4; color: #ffd9a0; background: rgb(23 24 26 / 0.82);
    display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden;
  }
  .note:empty { display: none; }
  .bar { height: 2px; flex: none; background: rgb(255 255 255 / 0.06); }
  .bar > div { height: 100%; width: 100%; transform-origin: left; background: var(--safelight-lamp, #ff8a3d); }
  .line { display: flex; flex: none; gap: 14px; height: 26px; padding: 0 10px; overflow: hidden; white-space: nowrap; }
  .line > * { flex: none; }
  .line > .maker { flex: 0 1 auto; min-width: 0; overflow: hidden; text-overflow: ellipsis; }
  .line > :empty { display: none; }
  .sigma, .maker { color: var(--safelight-quiet, #8d9095); }
  .bar > div, .failed .step { transition: none; }
  .finished .bar > div { opacity: 0; }
  .interrupted .bar > div { opacity: 0.35; }
  .failed .bar > div { background: var(--error-text, #ff5c5c); }
  .failed .step { color: var(--error-text, #ff5c5c); }
  @media (prefers-reduced-motion: no-preference) {
    .bar > div { transition: transform 0.15s linear, opacity 0.6s; }
  }
  @media (prefers-reduced-motion: reduce) {
    .behind img, .words { transition: none; animation: none; }
  }
`;

export class Stage {
  #parts;
  #picture = null;
  #run = null;
  #shown = null; // the run and the step in the picture

  /** @param {Document} document where `element` is going to be */
  constructor(document) {
    /** The one element to be put somewhere; it fills what it is given, at least `MIN_HEIGHT_PX` high. */
    this.element = document.createElement("div");
    const part = (name, ...children) => {
      const element = document.createElement("div");
      element.className = name;
      element.append(...children);
      return element;
    };
    const words = part("words");
    const note = part("note");
    const frame = part("frame", words, note);
    const done = part("");
    const [step, sigma, maker] = ["step", "sigma", "maker"].map((name) => part(name));
    const stage = part("stage", frame, part("bar", done), part("line", step, sigma, maker));
    stage.role = "group";
    stage.ariaLabel = "Newest step";
    const style = document.createElement("style");
    style.textContent = STYLE;
    this.element.attachShadow({ mode: "open" }).append(style, stage);
    this.#parts = { stage, frame, words, note, done, step, sigma, maker };
    this.#render();
  }

  /** Says how a run is going; the picture stays until there is one of it. @param {import("./store.mjs").Run} run */
  run(run) {
    this.#run = run;
    this.#render();
  }

  /** Shows a picture, which must be ready to be painted. @param {HTMLImageElement} picture of `step` of `run` */
  show(picture, run, step) {
    picture.alt = `Step ${step.index}`;
    picture.draggable = false; // dropped on the canvas, it would be opened as a workflow
    if (this.#picture) this.#picture.replaceWith(picture);
    else this.#parts.frame.prepend(picture);
    this.#picture = picture;
    this.#shown = { run, step };
    this.run(run);
  }

  #render() {
    const { stage, words, note, done, ...line } = this.#parts;
    const run = this.#run;
    const own = this.#shown?.run === run ? this.#shown?.step : null;
    stage.className = `stage ${run?.state ?? "idle"}${run && !own ? " behind" : ""}`;
    words.textContent = this.#picture ? "" : inPlaceOfPicture(run?.state ?? "idle");
    note.textContent = note.title = lastNote(run?.manifest);
    done.style.transform = `scaleX(${progress(run)})`;
    const texts = run ? caption(run, own) : {};
    for (const [name, element] of Object.entries(line)) {
      if (name !== "frame") element.textContent = texts[name] ?? "";
    }
    line.maker.title = run?.manifest?.decoder?.name ?? "";
  }
}

/** How far a run is, 0..1: its own word, whichever picture is shown. */
export function progress(run) {
  if (!run) return 0;
  return run.state === "finished" ? 1 : Math.min(1, (run.index ?? 0) / (run.total || Infinity));
}

/** Loads a picture so that it can be shown without a flash. */
export async function loadPicture(address, document) {
  const picture = document.createElement("img");
  picture.src = address;
  await picture.decode();
  return picture;
}
