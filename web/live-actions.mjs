/** Lists what can be done to see runs elsewhere: in a window of their own, on another screen. */

const WINDOW = "popup,width=720,height=820";

/**
 * @param {Window} window
 * @param {(path: string) => string} address turns a path on the server into an address
 * @param {() => string} key of this browser
 * @returns {import("./action-menu.mjs").Actions}
 */
export function liveActions(window, address, key) {
  const page = () => new URL(address("/safelight/live"), window.location.href);
  return ({ run }) => [
    {
      label: "Open in a window of its own",
      run: () => {
        const url = page();
        url.hash = `run=${encodeURIComponent(run.id)}`;
        if (!window.open(url, "_blank", WINDOW)) throw new Error("The browser has blocked the window: allow pop-ups of this page");
      },
    },
    {
      label: "Copy the address for another screen",
      run: async () => {
        const url = page();
        url.hash = `key=${encodeURIComponent(key())}`;
        await window.navigator.clipboard.writeText(url.href);
        return "Copied. Anyone who has this address sees your runs and can stop them";
      },
    },
  ];
}
