/** Lists what can be done to see runs elsewhere: in a window of their own, on top of all others, on another screen. */

import { later, t } from "./language.mjs";
import { openOnTop } from "./on-top.mjs";

const WINDOW = "popup,width=720,height=820";
const TITLE = "Safelight";
const ORDINARY = later("This browser cannot keep a window on top, so it is an ordinary one");

/**
 * @param {Window} window
 * @param {(path: string) => string} address turns a path on the server into an address
 * @param {() => string} key of this browser
 * @returns {import("./action-menu.mjs").Actions}
 */
export function liveActions(window, address, key) {
  /** @param {Record<string, string>} facts */
  const page = (facts) => {
    const url = new URL(address("/safelight/live"), window.location.href);
    url.hash = Object.entries(facts).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
    return url;
  };
  /** @param {import("./types.mjs").Run} run */
  const openWindow = (run) => {
    if (!window.open(page({ run: run.id }), "_blank", WINDOW)) throw new Error(t("The browser has blocked the window: allow pop-ups of this page"));
  };
  return ({ run }) => [
    { label: t("Open in a window of its own"), run: () => openWindow(run) },
    {
      label: t("Open on top of other windows"),
      run: async () => {
        if (await openOnTop(window, page({ run: run.id }), TITLE)) return;
        openWindow(run);
        return t(ORDINARY);
      },
    },
    {
      label: t("Copy the address for another screen"),
      run: async () => {
        await window.navigator.clipboard.writeText(page({ key: key() }).href);
        return t("Copied. Anyone who has this address sees your runs and can stop them");
      },
    },
  ];
}
