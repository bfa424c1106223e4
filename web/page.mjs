/** Starts the page in the folder of a run: the viewer with the runs in that folder. */

import { create, pageData } from "./elements.mjs";
import { date, later, plural, t } from "./language.mjs";
import { modelName, newestStep, startMs } from "./manifest.mjs";
import { useBrowserLanguage } from "./page-language.mjs";
import { readManifest } from "./sanitize.mjs";
import { sentText } from "./sent-texts.mjs";
import { Viewer } from "./viewer.mjs";

/** @type {[string, "sheet" | "animation"][]} */
const PRODUCTS = [[later("Contact sheet"), "sheet"], [later("Animation"), "animation"]];
const INNER_FOLDER = /^run_\d{3,}$/; // of a further run of the same prompt

/** @typedef {import("./types.mjs").Manifest} Manifest @typedef {import("./types.mjs").Run} Run */

/**
 * A source of runs whose manifests are part of the page. Their pictures are files in the folder of the page, or in a
 * folder in it.
 *
 * @param {Manifest[]} saved in the order in which they began
 * @returns {import("./types.mjs").Source}
 */
export function embeddedSource(saved) {
  const runs = saved.map(embeddedRun).reverse();
  /** @param {string} id */
  const manifestOf = (id) => runs.find((run) => run.id === id)?.manifest ?? null;
  return {
    runs: () => runs,
    manifest: async (id) => manifestOf(id),
    picture: (id, file) => fileAddress(file, manifestOf(id)),
    onChange: () => () => {},
  };
}

/** @param {Manifest} saved */
function embeddedRun(saved) {
  /**
   * The page may be old, so the times of its steps must not become an estimate of the time left.
   *
   * @param {import("./types.mjs").ManifestStep} step
   */
  const untimed = (step) => ({ ...step, at: null });
  const manifest = saved.state === "running" ? { ...saved, steps: saved.steps.map(untimed) } : saved;
  const started = startMs(manifest);
  return {
    id: manifest.id,
    state: manifest.state,
    index: newestStep(manifest)?.index ?? null,
    total: manifest.sampler?.steps ?? null,
    started,
    written: started ? started + 1000 * (manifest.seconds ?? 0) : null,
    gone: false,
    manifest,
  };
}

/**
 * The address of a file of a run, in the folder of the page or in a folder in it.
 *
 * @param {string} file @param {Manifest | null} manifest
 */
function fileAddress(file, manifest) {
  const folder = manifest?.folder ?? "";
  return `./${INNER_FOLDER.test(folder) ? `${folder}/` : ""}${encodeURIComponent(file)}`;
}

/** One line about a run: its start and its settings. @param {Manifest} manifest */
export function runSummary(manifest) {
  const { steps, name, scheduler, seed, cfg } = manifest.sampler ?? {};
  const started = startMs(manifest);
  const parts = [
    started ? date(started, { dateStyle: "medium", timeStyle: "short" }) : null,
    steps == null ? null : plural(steps, "{count} step", "{count} steps"),
    [name, scheduler].filter(Boolean).join(", "),
    seed == null ? null : t("seed {seed}", { seed }),
    cfg == null ? null : t("cfg {cfg}", { cfg }),
    modelName(manifest),
  ];
  return parts.filter(Boolean).join(" · ");
}

/** A note for a page that was written before its run ended; else empty. @param {Manifest} manifest */
export function unfinishedNote(manifest) {
  if (manifest.state !== "running") return "";
  const step = newestStep(manifest)?.index;
  const total = manifest.sampler?.steps;
  const written =
    step == null
      ? t("This page was written while the run was in progress, before its first step.")
      : total == null
        ? t("This page was written while the run was in progress, at step {step}.", { step })
        : t("This page was written while the run was in progress, at step {step} of {total}.", { step, total });
  return `${written} ${t("Reload it to see newer steps. If there are none, the run was killed at this point.")}`;
}

/**
 * Starts the page. Its data are the manifest of a run, or those of several runs.
 *
 * @param {Document} document
 */
export async function start(document) {
  await useBrowserLanguage(document);
  const data = pageData(document);
  showSaved(document, (data.format ? [data] : data.runs).map(readManifest));
}

/**
 * Shows runs in their folder; the texts around the viewer are those of the selected run.
 *
 * @param {Document} document @param {Manifest[]} manifests
 */
function showSaved(document, manifests) {
  const page = layOut(document, folderName(document.location.pathname));
  const source = embeddedSource(manifests);
  /** @param {Run} run */
  const onRun = ({ manifest }) => {
    if (!manifest) return;
    const place = manifests.length > 1 ? [t("run {number} of {count}", { number: manifests.findIndex(({ id }) => id === manifest.id) + 1, count: manifests.length })] : [];
    page.setSummary([...place, runSummary(manifest)].join(" · "));
    page.setNotes(unfinishedNote(manifest), ...(manifest.notes.length > 1 ? manifest.notes.map(sentText) : [])); // the viewer shows a single note
    const products = PRODUCTS.map(([text, key]) => ({ text: t(text), file: manifest[key] }));
    const files = [...products, { text: "run.json", file: "run.json" }];
    page.setLinks(files.flatMap(({ text, file }) => (file ? [[text, fileAddress(file, manifest)]] : [])));
  };
  page.add(new Viewer(document, source, { still: true, onRun }));
}

/** The name of the last folder in a path. @param {string} path */
export function folderName(path) {
  const name = path.split("/").at(-2) ?? "";
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** Creates the parts of a page. @param {Document} document @param {string} title its heading; may be empty */
export function layOut(document, title) {
  const [summary, nav] = [create(document, "p"), create(document, "nav")];
  const [main, footer] = [create(document, "main"), create(document, "footer")];
  const heading = create(document, "h1", { textContent: title || "Safelight" });
  document.body.append(create(document, "header", {}, heading, summary, nav), main, footer);
  document.title = title ? `${title} · Safelight` : "Safelight";
  return {
    /** @param {string} text */
    setSummary: (text) => (summary.textContent = text),
    /** @param {[string, string][]} links texts and addresses @param {string} [current] address of what is shown */
    setLinks(links, current) {
      nav.replaceChildren(...links.map(([textContent, href]) => create(document, "a", { textContent, href, ariaCurrent: href === current ? "page" : null })));
    },
    /** @param {string[]} texts */
    setNotes: (...texts) => footer.replaceChildren(...texts.filter(Boolean).map((textContent) => create(document, "p", { textContent }))),
    /** Shows a viewer or a library in place of what was there. @param {{element: HTMLElement, focus: () => void}} part */
    add(part) {
      main.replaceChildren(part.element);
      part.focus();
    },
  };
}
