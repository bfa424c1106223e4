/** Writes the texts about a run: its caption, its label and the placeholder for a missing picture. */

import { settledLabel, settledStep } from "./change.mjs";
import { date, decimal, later, plural, t } from "./language.mjs";
import { finalSize, isSilent, newestStep, secondsPerStep, stepTotal } from "./manifest.mjs";
import { truthLabel } from "./truth.mjs";
import { writtenLabel } from "./written-files.mjs";

/**
 * @typedef {import("./types.mjs").Run} Run
 * @typedef {import("./types.mjs").Manifest} Manifest
 * @typedef {import("./types.mjs").ManifestStep} ManifestStep
 */

/** @type {Record<string, string>} */
const STOPPED = { stopped: later("kept step {step}"), interrupted: later("canceled at step {step}"), failed: later("failed at step {step}") };
const STATE_LABELS = { finished: later("finished"), stopped: later("stopped"), interrupted: later("canceled"), failed: later("failed"), running: later("running") };
const NO_RUN = later("Each step appears here. Connect model to a sampler and run the workflow.");
const GONE = later("The pictures of this run were deleted to make room for newer runs");
const NO_PICTURE = {
  running: later("Waiting for the first step"),
  finished: later("Finished without a picture"),
  stopped: later("Stopped without a picture"),
  interrupted: later("Canceled before the first picture"),
  failed: later("Failed before the first picture"),
};

/**
 * The text that replaces a missing picture.
 *
 * @param {import("./types.mjs").Run | null} run
 * @param {string} [idle] text while there is no run
 * @param {number} [now] milliseconds since 1970
 */
export function placeholder(run, idle = t(NO_RUN), now = Date.now()) {
  if (!run) return idle;
  const pictured = newestStep(run.manifest) !== null;
  const loading = pictured || !run.manifest;
  if (run.gone && loading) return t(GONE);
  if (run.state !== "running" && loading) return t("Opening the run");
  if (isSilent(run, now) && !pictured) return `${t("No picture")}; ${lastUpdate(run, now)}`;
  return t(NO_PICTURE[run.state] ?? "");
}

/**
 * The parts of the caption, the most important first; an unknown part is empty.
 *
 * @param {import("./types.mjs").Run} run
 * @param {import("./types.mjs").ManifestStep | null} step the shown step
 * @param {boolean} atEnd whether the viewer shows the end of the run; false: the user selected this step
 * @param {number} [now] milliseconds since 1970
 */
export function caption(run, step, atEnd, now = Date.now()) {
  const { manifest } = run;
  const stopped = atEnd && run.state in STOPPED;
  const index = stopped && run.state !== "stopped" ? (run.index ?? step?.index) : step?.index;
  const total = stepTotal(run);
  const rate = secondsPerStep(manifest);
  const size = finalSize(manifest);
  return {
    step: index == null ? "" : t(stopped ? STOPPED[run.state] : later("step {step}"), { step: total == null ? index : `${index} / ${total}` }),
    fault: notFiniteLabel(step),
    sigma: step?.sigma == null ? "" : `σ ${formatSigma(step.sigma)}`,
    time: isSilent(run, now) ? lastUpdate(run, now) : time(run, rate, total),
    settled: settledLabel(manifest),
    files: writtenLabel(manifest),
    decoder: decoderLabel(manifest),
    truth: truthLabel(manifest),
    rate: rate ? formatRate(rate) : "",
    size: size ? `${size.width}×${size.height}` : "",
    decode: step?.decode_ms == null ? "" : t("decoded in {ms} ms", { ms: decimal(step.decode_ms, step.decode_ms < 10 ? 1 : 0) }),
  };
}

/** What a narrow viewer shows in place of parts of the caption. @param {import("./types.mjs").Manifest | null} manifest */
export function shortTexts(manifest) {
  const step = settledStep(manifest);
  const files = manifest?.written?.files;
  return {
    settled: step === null ? "" : t("settled {step}", { step }),
    files: files ? plural(files, "{count} file", "{count} files") : "",
  };
}

/**
 * How long the run took, or how long it still takes. A manifest that was read before the end has no final duration.
 *
 * @param {Run} run @param {number | null} rate seconds per step @param {number | null} total number of steps
 */
function time(run, rate, total) {
  const { seconds = null, state } = run.manifest ?? {};
  if (run.state !== "running") return seconds === null || state !== run.state ? "" : formatDuration(seconds);
  if (run.manifest?.control?.paused) return t("paused");
  if (rate === null || total == null || run.index == null) return "";
  return t("{time} left", { time: formatDuration(rate * Math.max(0, total - run.index)) });
}

/** The time of the last update of a silent run, with the date if that was not today. @param {Run} run @param {number} now */
function lastUpdate({ written }, now) {
  const at = written ?? now;
  const today = new Date(at).toDateString() === new Date(now).toDateString();
  const time = date(at, { timeStyle: "short", ...(today ? {} : { dateStyle: "medium" }) });
  return t("no update since {time}", { time });
}

/**
 * The latent space, and the decoder's name without the space that most names begin with: `flux2 · conv small`.
 *
 * @param {Pick<Manifest, "space" | "decoder"> | null} manifest
 */
export function decoderLabel(manifest) {
  const space = manifest?.space ?? "";
  const name = manifest?.decoder?.name ?? "";
  const decoder = name.startsWith(`${space}-`) ? name.slice(space.length + 1) : name;
  return [space, decoder.replaceAll("-", " ")].filter(Boolean).join(" · ");
}

/** The share of a step's latents that are NaN or infinite: `50 % NaN`; empty if none are. @param {ManifestStep | null} step */
export function notFiniteLabel(step) {
  const share = step?.not_finite;
  if (share == null) return "";
  const percent = share < 0.01 ? "< 1" : share < 1 ? Math.min(99, Math.round(100 * share)) : 100;
  return `${percent} % NaN`;
}

/** A sigma with two or three significant digits: 0.31, 14.6, 0.029. @param {number} sigma */
export function formatSigma(sigma) {
  const size = Math.abs(sigma);
  if (size === 0) return "0";
  return decimal(sigma, size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

/** 0.4 s, 12 s, 3:05, 1:02:09. @param {number} seconds */
export function formatDuration(seconds) {
  if (seconds < 9.95) return t("{seconds} s", { seconds: decimal(seconds, 1) });
  const whole = Math.round(seconds);
  if (whole < 60) return t("{seconds} s", { seconds: whole });
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  /** @param {number} number */
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** 0.9 s/step, or the inverse for fast steps: 31 steps/s. @param {number} seconds per step */
export function formatRate(seconds) {
  if (seconds >= 0.1) return t("{seconds} s/step", { seconds: decimal(seconds, seconds < 10 ? 1 : 0) });
  return t("{count} steps/s", { count: decimal(1 / seconds, 0) });
}

/** The last note of a run, or that its pictures are gone; empty for none. @param {Run | null} run */
export function lastNote(run) {
  return run?.gone ? t(GONE) : (run?.manifest?.notes?.at(-1) ?? "");
}

/**
 * The tooltip of a run's thumbnail: when it began, its steps, its seed, its state.
 *
 * @param {Run} run @param {number} [now] milliseconds since 1970
 */
export function runLabel(run, now = Date.now()) {
  const when = Number.isFinite(run.started) ? date(run.started, { timeStyle: "medium" }) : "";
  const { seed, steps } = run.manifest?.sampler ?? {};
  const state = run.gone ? t("pictures deleted") : isSilent(run, now) ? lastUpdate(run, now) : t(STATE_LABELS[run.state]);
  return [when, steps == null ? "" : plural(steps, "{count} step", "{count} steps"), seed == null ? "" : t("seed {seed}", { seed }), state].filter(Boolean).join(", ");
}
