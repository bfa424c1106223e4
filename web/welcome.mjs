/** Says once for each user, after the installation, what there is. */

import { t } from "./language.mjs";

export const WELCOMED_SETTING = "Safelight.Welcomed";

const message = () => ({
  severity: "info",
  summary: t("Safelight is installed"),
  detail: t("Put Preview Steps on the model line to see every step of a sampler. For a better preview on every sampler, switch on “Safelight previews on all samplers”, below the picture of Preview Steps or in Settings, Safelight."),
  life: 20_000,
});

/** @param {import("./everywhere.mjs").Settings} settings @param {(message: object) => void} show shows a toast */
export async function welcome(settings, show) {
  if (settings.get(WELCOMED_SETTING) === true) return;
  show(message());
  await settings.set(WELCOMED_SETTING, true);
}
