/** Starts the index page of a folder of runs, which needs no server: its data are the runs with their manifests. */

import { pageData } from "./elements.mjs";
import { EmbeddedRuns } from "./embedded-runs.mjs";
import { date, t } from "./language.mjs";
import { Library } from "./library.mjs";
import { useBrowserLanguage } from "./page-language.mjs";
import { layOut } from "./page.mjs";

/** @type {Intl.DateTimeFormatOptions} */
const WHEN = { dateStyle: "medium", timeStyle: "short" };

/** Starts the page. @param {Document} document */
export async function start(document) {
  await useBrowserLanguage(document);
  const { folder, written, runs } = pageData(document);
  const page = layOut(document, folder);
  const at = Date.parse(written);
  page.setSummary(Number.isNaN(at) ? "" : t("Written {date}; newer runs are not in it", { date: date(at, WHEN) }));
  page.add(new Library(document, new EmbeddedRuns(runs), { empty: t("There was no run when this page was written.") }));
}
