/** Shows the figures of a run over the picture: its times, where it settled, what its previews cost. */

import { decoderLabel, formatDuration, formatRate } from "./caption.mjs";
import { changeAfter, changes, formatChange, settledStep } from "./change.mjs";
import { create, createSvg } from "./elements.mjs";
import { decimal, t } from "./language.mjs";
import { picturedSteps, secondsPerStep, stepTotal, timedSteps } from "./manifest.mjs";
import { barLength, stepScale } from "./step-strip.mjs";
import { truthText } from "./truth.mjs";
import { writtenLabel } from "./written-files.mjs";

/** @typedef {import("./types.mjs").Run} Run @typedef {import("./types.mjs").Manifest} Manifest */

const CHART_HEIGHT_PX = 44;
const [MAX_BAR_PX, BAR_SHARE] = [8, 0.7];
const NO_TIME_SHARE = 0.0005; // of the sampler's time, below which no share is shown

/**
 * The seconds of each step after the first one: `[index, seconds]`; over several steps, their mean.
 *
 * @param {Manifest | null} manifest
 * @returns {[number, number][]}
 */
export function stepSeconds(manifest) {
  const timed = timedSteps(manifest);
  return timed.slice(1).map(({ index, at }, i) => [index, Math.max(0, at - timed[i].at) / Math.max(1, index - timed[i].index)]);
}

/**
 * The figures of a run, each with its name; unknown ones are left out.
 *
 * @param {Run} run
 * @returns {{name: string, text: string}[]}
 */
export function figures(run) {
  const { manifest } = run;
  const rows = [
    [t("Time"), timeText(run)],
    [t("Each step"), rateText(manifest)],
    [t("Settled"), settledText(run)],
    [t("Newest"), run.state === "running" ? newestText(manifest) : ""],
    [t("Previews"), costText(manifest)],
    [t("Decoder"), decoderText(manifest)],
    [t("Truth"), truthText(manifest)],
    [t("Files"), writtenLabel(manifest)],
  ];
  return rows.filter(([, text]) => text).map(([name, text]) => ({ name, text }));
}

/** @param {Run} run */
function timeText(run) {
  const { manifest } = run;
  const rate = secondsPerStep(manifest);
  const total = stepTotal(run);
  if (run.state !== "running") return manifest?.seconds == null ? "" : formatDuration(manifest.seconds);
  if (rate === null || total === null || run.index === null) return "";
  return t("{time} left of about {total}", { time: formatDuration(rate * Math.max(0, total - run.index)), total: formatDuration(rate * total) });
}

/** @param {Manifest | null} manifest */
function rateText(manifest) {
  const seconds = stepSeconds(manifest);
  const rate = secondsPerStep(manifest);
  if (!seconds.length || rate === null) return "";
  const [index, slowest] = seconds.reduce((a, b) => (b[1] > a[1] ? b : a));
  return `${formatRate(rate)}; ${t("the slowest took {time} (step {step})", { time: formatSeconds(slowest), step: index })}`;
}

/** @param {Run} run */
function settledText({ state, manifest }) {
  const step = settledStep(manifest);
  if (step !== null) return t("at step {step}; all later steps changed the picture by {change}", { step, change: formatChange(changeAfter(manifest, step)) });
  const known = state === "finished" && changes(manifest).length && !picturedSteps(manifest).some(({ show }) => show === "noisy");
  return known ? t("not before the end: the picture changed until the last step") : "";
}

/** @param {Manifest | null} manifest */
function newestText(manifest) {
  const change = changes(manifest).at(-1)?.[1];
  return change === undefined ? "" : t("the picture changed by {change}", { change: formatChange(change) });
}

/** @param {Manifest | null} manifest */
function costText(manifest) {
  const { sampler_ms = null, end_ms = null, memory_mb = null, device } = manifest?.cost ?? {};
  if (sampler_ms === null) return "";
  const share = manifest?.seconds ? sampler_ms / 1000 / manifest.seconds : 0;
  const time = `${t("{time} of the sampler's time", { time: formatMs(sampler_ms) })}${share >= NO_TIME_SHARE ? ` (${formatChange(share)})` : ""}`;
  const end = end_ms !== null && end_ms >= 1 ? t("{time} at the end", { time: formatMs(end_ms) }) : "";
  const size = memory_mb === null ? "" : t("{count} MB", { count: decimal(memory_mb, memory_mb < 10 ? 1 : 0) });
  const memory = size && device ? t("{size} on {device}", { size, device }) : size;
  return [time, end, memory].filter(Boolean).join(", ");
}

/** @param {Manifest | null} manifest */
function decoderText(manifest) {
  const times = picturedSteps(manifest).map(({ decode_ms }) => decode_ms).filter((ms) => ms != null).sort((a, b) => a - b);
  const middle = times[Math.floor(times.length / 2)];
  return [decoderLabel(manifest), middle === undefined ? "" : t("{time} a picture", { time: formatMs(middle) })].filter(Boolean).join(", ");
}

/** @param {number} ms */
function formatMs(ms) {
  return ms >= 10_000 ? formatDuration(ms / 1000) : t("{ms} ms", { ms: decimal(ms, ms < 10 ? 1 : 0) });
}

/** @param {number} seconds */
function formatSeconds(seconds) {
  return seconds < 0.1 ? formatMs(1000 * seconds) : formatDuration(seconds);
}

/** The card with the figures, and bars for each step above the strip's steps. It is hidden until the user asks for it. */
export class FiguresCard {
  #document;
  #list;
  #charts;
  /** @type {{manifest: Manifest | null, total: number}} */ #facts = { manifest: null, total: 0 };

  /** @param {Document} document @param {() => void} close */
  constructor(document, close) {
    this.#document = document;
    this.#list = create(document, "dl");
    this.#charts = [
      new StepChart(document, t("Change of the picture in each step"), { values: changes, length: (change) => barLength(change), text: formatChange }),
      new StepChart(document, t("Seconds of each step"), { values: stepSeconds, length: (seconds, most) => seconds / most, text: formatSeconds }),
    ];
    const charts = this.#charts.map(({ element }) => element);
    this.element = create(document, "div", { className: "figures over", role: "note", ariaLabel: t("Figures of this run"), hidden: true }, this.#list, ...charts);
    this.element.addEventListener("click", close);
  }

  /** @param {Run | null} run @param {number} total number of steps */
  show(run, total) {
    if (this.element.hidden) return;
    this.#facts = { manifest: run?.manifest ?? null, total };
    /** @param {"dt" | "dd"} tag @param {string} textContent */
    const cell = (tag, textContent) => create(this.#document, tag, { textContent });
    const rows = run ? figures(run) : [];
    this.#list.replaceChildren(...(rows.length ? rows : [{ name: t("Figures"), text: t("known from the second step on") }]).flatMap(({ name, text }) => [cell("dt", name), cell("dd", text)]));
    this.layout();
  }

  /** Draws the charts at the current width. */
  layout() {
    if (this.element.hidden) return;
    const { manifest, total } = this.#facts;
    for (const chart of this.#charts) chart.draw(manifest, total, this.element.clientWidth);
  }
}

/** A bar for each step, with the largest value in words. */
class StepChart {
  #kind;
  #title;
  #most;
  #bars;
  #svg;

  /**
   * @param {Document} document @param {string} title
   * @param {{values: (manifest: Manifest | null) => [number, number][], length: (value: number, most: number) => number, text: (value: number) => string}} kind
   */
  constructor(document, title, kind) {
    this.#kind = kind;
    this.#title = title;
    this.#most = create(document, "span");
    this.#bars = createSvg(document, "path", { class: "bars" });
    this.#svg = createSvg(document, "svg", { "aria-hidden": "true", height: CHART_HEIGHT_PX }, this.#bars);
    this.element = create(document, "figure", {}, create(document, "figcaption", {}, title, this.#most), this.#svg);
  }

  /** @param {Manifest | null} manifest @param {number} total number of steps @param {number} width in pixels */
  draw(manifest, total, width) {
    const values = this.#kind.values(manifest);
    this.element.hidden = values.length < 2;
    if (this.element.hidden) return;
    const most = values.reduce((a, b) => (b[1] > a[1] ? b : a));
    this.#most.textContent = t("most: {value} in step {step}", { value: this.#kind.text(most[1]), step: most[0] });
    this.element.ariaLabel = `${this.#title}, ${this.#most.textContent}`;
    this.#svg.setAttribute("width", String(width));
    const { x } = stepScale(width, total);
    const bar = Math.max(1, Math.min(MAX_BAR_PX, (total > 1 ? x(2) - x(1) : MAX_BAR_PX) * BAR_SHARE));
    /** @param {[number, number]} bar */
    const path = ([index, value]) => {
      const length = Math.max(1, this.#kind.length(value, most[1] || 1) * CHART_HEIGHT_PX);
      return `M${(x(index) - bar / 2).toFixed(1)} ${CHART_HEIGHT_PX}h${bar.toFixed(1)}v${(-length).toFixed(1)}h${(-bar).toFixed(1)}z`;
    };
    this.#bars.setAttribute("d", values.map(path).join(""));
  }
}
