/** Shows the buttons that act on a run that goes on: pause, go on, stop and keep. */

import { button, create, setButton } from "./elements.mjs";
import { t } from "./language.mjs";

const CONFIRM_MS = 4000; // for the second click or key that ends the run

/** @typedef {import("./types.mjs").Run} Run */

/** What the host can do with a run now; undefined if it cannot act on it. @param {Run | undefined} run */
function controlOf(run) {
  return run?.state === "running" && !run.gone ? run.manifest?.control : undefined;
}

/** Whether the host can act on a run now. @param {Run | undefined} run */
export function isControlled(run) {
  return controlOf(run) != null;
}

/**
 * The step that would become the result, and why it cannot.
 *
 * @param {Run} run
 * @param {number | null} index shown step; null while the newest one is shown
 * @returns {{step: number | null, why: string}} `step` is null for the step that ends next
 */
export function keptStep(run, index) {
  if (index === null || index >= (run.index ?? 0)) return { step: null, why: "" };
  const isSaved = run.manifest?.control?.kept.includes(index);
  return { step: index, why: isSaved ? "" : t("Step {step} cannot be kept: its latents are not saved. Go to the newest step, or switch on keep_latents", { step: index }) };
}

export class RunControl {
  #document;
  #request;
  #notify;
  #pause;
  #keep;
  /** @type {Run | undefined} */ #run;
  /** @type {number | null} */ #index = null;
  #armed = false; // whether a second click ends the run
  /** @type {number | undefined} */ #timer;

  /**
   * @param {Document} document
   * @param {(id: string, request: "pause" | "go_on" | "stop", step?: number) => Promise<string>} request asks the host, and returns
   *   an error in words, or nothing
   * @param {(text: string) => void} notify shows a result to the user
   */
  constructor(document, request, notify) {
    this.#document = document;
    this.#request = request;
    this.#notify = notify;
    this.#pause = button(document, "hold", "", () => this.pause());
    this.#keep = button(document, "keep", "", () => this.keep(), "keep");
    this.element = create(document, "div", { className: "control", role: "toolbar", ariaLabel: t("Run"), hidden: true });
    this.element.append(this.#pause, this.#keep);
  }

  /**
   * @param {Run | undefined} run the selected one
   * @param {number | null} index shown step; null while the newest one is shown
   */
  show(run, index) {
    if (run?.id !== this.#run?.id || index !== this.#index) this.#disarm();
    [this.#run, this.#index] = [run, index];
    const control = controlOf(run);
    this.element.hidden = !control;
    if (!run || !control) return this.#disarm();
    const { paused } = control;
    setButton(this.#document, this.#pause, paused ? "resume" : "hold", paused ? t("Go on sampling (P)") : t("Pause after this step (P)"));
    this.#pause.ariaPressed = String(paused);
    const { step, why } = keptStep(run, index);
    const ask = step === null ? t("keep this step?") : t("keep step {step}?", { step });
    const offer = step === null ? t("Stop, and keep this step as the result (K)") : t("Stop, and keep step {step} as the result (K)", { step });
    setButton(this.#document, this.#keep, this.#armed ? ask : "keep", why || (this.#armed ? t("Once more to stop the run (K)") : offer));
    this.#keep.ariaDisabled = String(Boolean(why)); // not `disabled`: the reason must be readable
  }

  /** Pauses the run after its current step, or lets it go on. */
  pause() {
    const control = controlOf(this.#run);
    if (!this.#run || !control) return false;
    this.#send(this.#run, control.paused ? "go_on" : "pause");
  }

  /** Ends the run with a step as its result. The first call asks, a second one soon after it does it. */
  keep() {
    if (!this.#run || !isControlled(this.#run)) return false;
    const { step, why } = keptStep(this.#run, this.#index);
    if (why) return this.#notify(why);
    if (!this.#armed) {
      this.#armed = true;
      this.#timer = setTimeout(() => (this.#disarm(), this.show(this.#run, this.#index)), CONFIRM_MS);
    } else {
      this.#disarm();
      this.#send(this.#run, "stop", step ?? undefined);
    }
    this.show(this.#run, this.#index);
  }

  /** @param {Run} run @param {"pause" | "go_on" | "stop"} request @param {number} [step] */
  async #send(run, request, step) {
    const error = await this.#request(run.id, request, step);
    if (error) this.#notify(error);
  }

  #disarm() {
    clearTimeout(this.#timer);
    this.#armed = false;
  }
}
