/** Starts ComfyUI's live page: the viewer as a page of its own, for a second screen, a phone or a recording program. */

import { windowOf } from "./elements.mjs";
import { later, t } from "./language.mjs";
import { useBrowserLanguage } from "./page-language.mjs";
import { layOut } from "./page.mjs";
import { IDLE_INTERVAL_MS, PollingSource } from "./polling-source.mjs";
import { KEY_HEADER, RunKey } from "./run-key.mjs";
import { Viewer } from "./viewer.mjs";

const STORED = "Safelight.LiveKey"; // in the storage of the tab: the key from the page's address
const USER = "Comfy.userId"; // where ComfyUI's page stores the user
const IDLE = later("Runs of Preview Steps appear here while they are sampled.");
const NO_KEY = later("This browser has queued no prompt on this ComfyUI, so it sees no runs. Open the address that the menu on a picture copies: it contains the key.");
const ENDED = later("ComfyUI cannot be reached. Loaded pictures stay.");

/**
 * The key of the page, and the run to show first. Both come from the part of the address behind `#`, which browsers do
 * not send; the key is then removed from it.
 *
 * @param {Window} window
 * @returns {{key: string | null, run: string | null}}
 */
export function readAddress(window) {
  const { location, history } = window;
  const given = new URLSearchParams(location.hash.slice(1));
  const [key, run] = [given.get("key"), given.get("run")];
  if (key) {
    store(window, key);
    history.replaceState(null, "", location.pathname + location.search + (run ? `#run=${encodeURIComponent(run)}` : ""));
  }
  return { key: key ?? stored(window), run };
}

/** Starts the page. @param {Document} document */
export async function start(document) {
  await useBrowserLanguage(document);
  const window = windowOf(document);
  const { key, run } = readAddress(window);
  const page = layOut(document, "");
  /** @param {string} path */
  const request = (path, method = "GET") =>
    fetch(path === "runs" ? "runs?all=1" : path, { method, cache: "no-store", headers: key ? { [KEY_HEADER]: key } : {} });
  const source = new PollingSource(request);
  const viewer = new Viewer(document, source, { idle: t(key ? IDLE : NO_KEY) });
  page.add(viewer);
  source.onChange(() => page.setSummary(source.reachable ? "" : t(ENDED)));
  let first = run;
  const poll = async () => {
    const pause_ms = document.hidden || !key ? IDLE_INTERVAL_MS : await source.poll();
    if (first && source.runs().length) viewer.select(first);
    first = null;
    setTimeout(poll, pause_ms);
  };
  poll();
}

/** @param {Window} window @param {string} key */
function store(window, key) {
  try {
    window.sessionStorage.setItem(STORED, key);
  } catch {
    // until the page is reloaded
  }
}

/** The key of this tab, else that of ComfyUI's page in this browser. @param {Window} window */
function stored(window) {
  try {
    const { sessionStorage, localStorage } = window;
    return sessionStorage.getItem(STORED) ?? new RunKey(() => localStorage, () => localStorage.getItem(USER) ?? undefined).saved();
  } catch {
    return null;
  }
}
