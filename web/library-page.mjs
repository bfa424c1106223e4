/** Starts the index page of a folder of runs, which needs no server: its data are the runs with their manifests. */

import { EmbeddedRuns } from "./embedded-runs.mjs";
import { Library } from "./library.mjs";
import { layOut } from "./page.mjs";

const WHEN = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "short" });

/** Starts the page. @param {Document} document */
export function start(document) {
  const { folder, written, runs } = JSON.parse(document.getElementById("safelight").textContent);
  const page = layOut(document, folder);
  const at = Date.parse(written);
  page.setSummary(Number.isNaN(at) ? "" : `Written ${WHEN.format(at)}; newer runs are not in it`);
  page.add(new Library(document, new EmbeddedRuns(runs), { empty: "There was no run when this page was written." }));
}
