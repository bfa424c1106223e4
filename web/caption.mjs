/** The words below a picture. */

const AT_STEP = { running: "step", finished: "step", interrupted: "stopped at step", failed: "failed at step" };

const WITHOUT_A_PICTURE = {
  idle: "Each step appears here. Connect model to a sampler and run.",
  running: "Waiting for the first step",
  finished: "Finished without a picture",
  interrupted: "Stopped before the first picture",
  failed: "Failed before the first picture",
};

/** What stands in the place of a picture that is not there. */
export function inPlaceOfPicture(state) {
  return WITHOUT_A_PICTURE[state] ?? "";
}

/**
 * @param {import("./store.mjs").Run} run
 * @param {object | null} step of the manifest: the one that is shown
 * @returns {{step: string, sigma: string, maker: string}} parts of one line, empty where nothing is known
 */
export function caption(run, step) {
  const index = run.state === "interrupted" || run.state === "failed" ? (run.index ?? step?.index) : step?.index;
  const total = run.total ?? run.manifest?.sampler?.steps;
  return {
    step: index == null ? "" : `${AT_STEP[run.state] ?? "step"} ${index}${total == null ? "" : ` / ${total}`}`,
    sigma: step?.sigma == null ? "" : `σ ${shortSigma(step.sigma)}`,
    maker: maker(run.manifest),
  };
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

/** The last thing that the user should be told, or nothing. */
export function lastNote(manifest) {
  return manifest?.notes?.at(-1) ?? "";
}
