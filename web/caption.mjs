/** What the viewer says in words. */

import { isSilent, newestStep, secondsPerStep, shape } from "./manifest.mjs";

const STOPPED = { interrupted: "stopped at step", failed: "failed at step" };
const ENDS = { finished: "finished", interrupted: "stopped", failed: "failed", running: "running" };
const IDLE = "Each step appears here. Connect model to a sampler and run.";

const GONE = "The pictures of this run made room for newer ones";

const WITHOUT_A_PICTURE = {
  running: "Waiting for the first step",
  finished: "Finished without a picture",
  interrupted: "Stopped before the first picture",
  failed: "Failed before the first picture",
};

/**
 * What stands in the place of a picture that is not there.
 *
 * @param {import("./types.mjs").Run | null} run
 * @param {string} [idle] while there is no run
 * @param {number} [now] milliseconds since 1970
 */
export function inPlaceOfPicture(run, idle = IDLE, now = Date.now()) {
  if (!run) return idle;
  const known = newestStep(run.manifest) !== null;
  if (run.gone && (known || !run.manifest)) return GONE;
  if (run.state !== "running" && (known || !run.manifest)) return "Opening the run"; // its picture is on the way
  if (isSilent(run, now) && !known) return `No picture, and ${noNews(run, now)}`;
  return WITHOUT_A_PICTURE[run.state] ?? "";
}

/**
 * Parts of one line, the most important first; empty where nothing is known.
 *
 * @param {import("./types.mjs").Run} run
 * @param {import("./types.mjs").ManifestStep | null} step the one that is shown
 * @param {boolean} end whether it is shown as where the run has come to, rather than for its own sake
 * @param {number} [now] milliseconds since 1970
 */
export function caption(run, step, end, now = Date.now()) {
  const { manifest } = run;
  const stopped = end && run.state in STOPPED;
  const index = stopped ? (run.index ?? step?.index) : step?.index;
  const total = run.total ?? manifest?.sampler?.steps;
  const rate = secondsPerStep(manifest);
  const size = shape(manifest);
  return {
    step: index == null ? "" : `${stopped ? STOPPED[run.state] : "step"} ${index}${total == null ? "" : ` / ${total}`}`,
    sigma: step?.sigma == null ? "" : `σ ${shortSigma(step.sigma)}`,
    time: isSilent(run, now) ? noNews(run, now) : time(run, rate, total),
    maker: maker(manifest),
    rate: rate ? pace(rate) : "",
    size: size ? `${size.width}×${size.height}` : "",
    decode: step?.decode_ms == null ? "" : `decoded in ${step.decode_ms < 10 ? step.decode_ms.toFixed(1) : Math.round(step.decode_ms)} ms`,
  };
}

function time(run, rate, total) {
  // A manifest that was read before the end knows how long it took until then.
  const { seconds = null, state } = run.manifest ?? {};
  if (run.state !== "running") return seconds === null || state !== run.state ? "" : duration(seconds);
  if (rate === null || total == null || run.index == null) return "";
  return `${duration(rate * Math.max(0, total - run.index))} left`;
}

/** Since when there is nothing new of a run: the time of a day, before today the day as well. */
function noNews({ written }, now) {
  const today = new Date(written).toDateString() === new Date(now).toDateString();
  const when = new Date(written).toLocaleString([], { timeStyle: "short", ...(today ? {} : { dateStyle: "medium" }) });
  return `no news since ${when}`;
}

/** The latent space, and the decoder without the space that most of their names begin with: `flux2 · conv small`. */
export function maker(manifest) {
  const space = manifest?.space ?? "";
  const name = manifest?.decoder?.name ?? "";
  const decoder = name.startsWith(`${space}-`) ? name.slice(space.length + 1) : name;
  return [space, decoder.replaceAll("-", " ")].filter(Boolean).join(" · ");
}

/** As many digits as the eye can use: 0.31, 14.6, 0.029. */
export function shortSigma(sigma) {
  const size = Math.abs(sigma);
  if (size === 0) return "0";
  return sigma.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

/** 0.4 s, 12 s, 3:05, 1:02:09. */
export function duration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** 0.9 s/step, or the other way round for fast ones: 31 steps/s. */
export function pace(seconds) {
  if (seconds >= 0.1) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s/step`;
  return `${(1 / seconds).toFixed(0)} steps/s`;
}

/** The last thing that the user should be told of a run, or nothing. */
export function lastNote(run) {
  return run?.gone ? GONE : (run?.manifest?.notes?.at(-1) ?? "");
}

/** A run in a few words, for its thumbnail. */
export function nameRun(run, now = Date.now()) {
  const when = Number.isFinite(run.started) ? new Date(run.started).toLocaleTimeString([], { timeStyle: "medium" }) : "";
  const { seed, steps } = run.manifest?.sampler ?? {};
  const facts = [when, steps == null ? "" : `${steps} steps`, seed == null ? "" : `seed ${seed}`];
  const end = run.gone ? "pictures gone" : isSilent(run, now) ? noNews(run, now) : ENDS[run.state];
  return [...facts, end].filter(Boolean).join(", ");
}
