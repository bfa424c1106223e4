/** Starts the page of `safelight view`: the library of all runs in the folder, and a viewer that follows the newest run. */

import { later, plural, t } from "./language.mjs";
import { pageData, windowOf } from "./elements.mjs";
import { Library } from "./library.mjs";
import { libraryActions } from "./library-actions.mjs";
import { readChoices, writeChoices } from "./library-choices.mjs";
import { ServerRuns } from "./library-source.mjs";
import { SAVE_WORKFLOW, workflowSaver } from "./library-workflow.mjs";
import { useBrowserLanguage } from "./page-language.mjs";
import { layOut } from "./page.mjs";
import { IDLE_INTERVAL_MS, PollingSource } from "./polling-source.mjs";
import { Viewer } from "./viewer.mjs";

/** @type {[string, string][]} */
const LINKS = [[later("All runs"), "#library"], [later("Newest run"), "#viewer"]];
const MAX_RUNS = 500; // as many as the viewer has thumbnails of
/** @param {string} program */
const ended = (program) => t("{program} has ended. Loaded pictures stay; start it again to see new runs", { program });

/** @typedef {ReturnType<typeof layOut>} Page @typedef {ReturnType<typeof libraryPart>} LibraryPart */

/**
 * Starts the page. Its data are the name of the folder that is served, and that of the program which serves it.
 *
 * @param {Document} document
 */
export async function start(document) {
  await useBrowserLanguage(document);
  const { folder, program = "safelight view" } = pageData(document);
  const page = layOut(document, folder);
  const library = libraryPart(document, page, program);
  /** @type {Record<string, Pick<LibraryPart, "element" | "focus" | "poll">>} */
  const parts = { "#library": library, "#viewer": viewerPart(document, page, library, program) };
  const { location } = windowOf(document);
  /** @type {string | null} */
  let shown = null;
  /** @param {string} name */
  const show = (name) => {
    if (shown === name) return;
    shown = name;
    page.setLinks(LINKS.map(([text, part]) => [t(text), part]), name);
    page.add(parts[name]);
    parts[name].poll();
  };
  const follow = () => Object.hasOwn(parts, location.hash) && show(location.hash);
  windowOf(document).addEventListener("hashchange", follow);
  const poll = async () => {
    const pause_ms = document.hidden || !shown ? IDLE_INTERVAL_MS : await parts[shown].poll();
    setTimeout(poll, pause_ms);
  };
  // With a single run, its steps are what the user wants to see.
  parts["#library"].poll().then(() => {
    follow();
    show(shown ?? (library.count() === 1 ? "#viewer" : "#library"));
    poll();
  });
}

/** @param {Document} document @param {Page} page @param {string} program */
function libraryPart(document, page, program) {
  /** @param {string} path @param {RequestInit} [options] */
  const request = (path, options) => fetch(path, { cache: "no-store", ...options });
  const source = new ServerRuns(request, "library");
  source.onChange(() => element.isConnected && showSummary());
  const library = new Library(document, source, {
    view: readChoices(document),
    onView: (view) => writeChoices(document, view),
    empty: t("Runs appear here as they are written."),
    openWorkflow: workflowSaver(document, request, "library"),
    workflowLabel: SAVE_WORKFLOW,
  });
  const { element } = library;
  const showSummary = () => page.setSummary(source.reachable() ? "" : ended(program));
  return {
    element,
    focus: () => library.focus(),
    count: () => source.total(),
    /** @param {string} id */
    marks: (id) => source.entries().find((entry) => entry.id === id),
    /** @param {string} token */
    undo: (token) => source.undo(token),
    /** @param {Parameters<ServerRuns["act"]>} change */
    async act(...change) {
      const answer = await source.act(...change);
      if (answer.done) library.offerUndo(answer);
      return answer;
    },
    async poll() {
      await source.poll();
      showSummary();
      return source.interval(IDLE_INTERVAL_MS);
    },
  };
}

/** @param {Document} document @param {Page} page @param {LibraryPart} library @param {string} program */
function viewerPart(document, page, { act, undo, marks }, program) {
  /** @param {string} path */
  const request = (path) => fetch(path === "runs" ? `runs?limit=${MAX_RUNS}` : path, { cache: "no-store" });
  const source = new PollingSource(request);
  /** Without `get` and `control`, which this server does not have. @type {import("./types.mjs").Source} */
  const shown = {
    runs: () => source.runs(),
    manifest: (id) => source.manifest(id),
    picture: (id, file, at) => source.picture(id, file, at),
    onChange: (listener) => source.onChange(listener),
  };
  /** @type {import("./library-actions.mjs").Desk} */
  const desk = {
    ...{ act, undo, marks, place: t("“All runs”") },
    ask: async (title, before) => windowOf(document).prompt(title, before),
    forget: (id) => source.forget(id),
    refresh: () => source.poll(),
  };
  const viewer = new Viewer(document, shown, { idle: t("Runs appear here as they are written."), actions: [libraryActions(desk)] });
  const { element } = viewer;
  const showSummary = () => {
    const count = source.runs().filter(({ gone }) => !gone).length;
    page.setSummary(source.reachable ? plural(count, "{count} run", "{count} runs") : ended(program));
  };
  source.onChange(() => element.isConnected && showSummary());
  return { element, focus: () => viewer.focus(), poll: () => source.poll() };
}
