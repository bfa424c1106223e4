/** Says how much the picture of a run changed in each step, and at which step it settled. */

import { decimal, t } from "./language.mjs";
import { picturedSteps } from "./manifest.mjs";

/** @typedef {import("./types.mjs").Manifest} Manifest */

/**
 * A picture has settled when all later changes together are smaller than this, as RMS of 0 to 1. It is a total: with many
 * steps, the change in each of them is small from the start. `docs/run.md` has the runs that it was chosen from.
 */
export const SETTLED_CHANGE = 0.02;

/** The steps whose change is known: `[index, change]`. @param {Manifest | null} manifest @returns {[number, number][]} */
export function changes(manifest) {
  return picturedSteps(manifest).flatMap(({ index, change }) => (change == null ? [] : [[index, change]]));
}

/**
 * The first step after which the picture changes by less than `SETTLED_CHANGE` in total. Null if it changed until the
 * end, and for a run that has not finished or that shows noisy latents.
 *
 * @param {Manifest | null} manifest
 */
export function settledStep(manifest) {
  if (manifest?.state !== "finished") return null;
  const steps = picturedSteps(manifest);
  if (!steps.some(({ change }) => change != null) || steps.some(({ show }) => show === "noisy")) return null;
  let total = 0;
  for (let i = steps.length - 1; i > 0; i--) {
    total += steps[i].change ?? 0;
    if (total >= SETTLED_CHANGE) return i === steps.length - 1 ? null : steps[i].index;
  }
  return steps[0].index;
}

/** `settled at step 14`; empty if it did not settle. @param {Manifest | null} manifest */
export function settledLabel(manifest) {
  const step = settledStep(manifest);
  return step === null ? "" : t("settled at step {step}", { step });
}

/** The change after a step, in total. @param {Manifest | null} manifest @param {number} index */
export function changeAfter(manifest, index) {
  return changes(manifest).reduce((sum, [at, change]) => (at > index ? sum + change : sum), 0);
}

/** A change in percent, with two digits: 12 %, 1.2 %, 0.03 %. @param {number} change 0 to 1 */
export function formatChange(change) {
  const percent = 100 * change;
  if (percent > 0 && percent < 0.01) return `< ${decimal(0.01, 2)} %`;
  return `${percent >= 1 ? decimal(percent, percent >= 10 ? 0 : 1) : decimal(percent, 2, 0)} %`;
}
