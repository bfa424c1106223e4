/** Starts the page around the viewer: of the runs in its folder, or of all runs that `safelight view` serves. */

import { create } from "./elements.mjs";
import { modelName, newestStep, startMs } from "./manifest.mjs";
import { IDLE_INTERVAL_MS, PollingSource } from "./polling-source.mjs";
import { readManifest } from "./sanitize.mjs";
import { Viewer } from "./viewer.mjs";

const PRODUCTS = [["Contact sheet", "sheet"], ["Animation", "animation"]];
const INNER_FOLDER = /^run_\d{3,}$/; // of a further run of the same prompt

/**
 * A source of runs whose manifests are part of the page. Their pictures are files in the folder of the page, or in a
 * folder in it.
 *
 * @param {import("./types.mjs").Manifest[]} saved in the order in which they began
 * @returns {import("./types.mjs").Source}
 */
export function embeddedSource(saved) {
  const runs = saved.map(embeddedRun).reverse();
  const manifestOf = (id) => runs.find((run) => run.id === id)?.manifest ?? null;
  return {
    runs: () => runs,
    manifest: async (id) => manifestOf(id),
    picture: (id, file) => fileAddress(file, manifestOf(id)),
    onChange: () => () => {},
  };
}

function embeddedRun(saved) {
  // The page may be old, so the times of its steps must not become an estimate of the time left.
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

/** The address of a file of a run, in the folder of the page or in a folder in it. */
function fileAddress(file, manifest) {
  const folder = INNER_FOLDER.test(manifest?.folder) ? `${manifest.folder}/` : "";
  return `./${folder}${encodeURIComponent(file)}`;
}

/** One line about a run: its start and its settings. */
export function runSummary(manifest) {
  const { steps, name, scheduler, seed, cfg } = manifest.sampler ?? {};
  const started = startMs(manifest);
  const parts = [
    started ? new Date(started).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : null,
    steps == null ? null : `${steps} steps`,
    [name, scheduler].filter(Boolean).join(", "),
    seed == null ? null : `seed ${seed}`,
    cfg == null ? null : `cfg ${cfg}`,
    modelName(manifest),
  ];
  return parts.filter(Boolean).join(" · ");
}

/** A note for a page that was written before its run ended; else empty. */
export function unfinishedNote(manifest) {
  if (manifest.state !== "running") return "";
  const step = newestStep(manifest)?.index;
  const total = manifest.sampler?.steps;
  const at = step == null ? "before its first step" : `at step ${step}${total == null ? "" : ` of ${total}`}`;
  return `This page was written while the run was in progress, ${at}. Reload it to see newer steps. If there are none, the run was killed at this point.`;
}

/**
 * Starts the page. Its data are the manifest of a run, those of several runs, or the name of the folder that is served.
 *
 * @param {Document} document
 */
export function start(document) {
  const data = JSON.parse(document.getElementById("safelight").textContent);
  const saved = data.format ? [data] : data.runs;
  if (saved) showSaved(document, saved.map(readManifest));
  else showRuns(document, data);
}

/** Shows runs in their folder; the texts around the viewer are those of the selected run. */
function showSaved(document, manifests) {
  const page = layOut(document, folderName(document.location.pathname));
  const source = embeddedSource(manifests);
  const onRun = ({ manifest }) => {
    const place = manifests.length > 1 ? [`run ${manifests.findIndex(({ id }) => id === manifest.id) + 1} of ${manifests.length}`] : [];
    page.setSummary([...place, runSummary(manifest)].join(" · "));
    page.setNotes(unfinishedNote(manifest), ...(manifest.notes.length > 1 ? manifest.notes : [])); // the viewer shows a single note
    const products = PRODUCTS.filter(([, key]) => manifest[key]).map(([text, key]) => [text, manifest[key]]);
    page.setLinks([...products, ["run.json", "run.json"]].map(([text, file]) => [text, fileAddress(file, manifest)]));
  };
  page.add(new Viewer(document, source, { still: true, onRun }));
}

function showRuns(document, { folder }) {
  const page = layOut(document, folder);
  const source = new PollingSource((path) => fetch(path, { cache: "no-store" }));
  source.onChange(() => {
    const count = source.runs().filter(({ gone }) => !gone).length;
    const runs = `${count} ${count === 1 ? "run" : "runs"}`;
    page.setSummary(source.reachable ? runs : "safelight view has ended. Loaded pictures stay; start it again to see new runs");
  });
  page.add(new Viewer(document, source, { idle: "Runs appear here as they are written." }));
  const poll = async () => {
    const pause_ms = document.hidden ? IDLE_INTERVAL_MS : await source.poll();
    setTimeout(poll, pause_ms);
  };
  poll();
}

/** The name of the last folder in a path. */
export function folderName(path) {
  const name = path.split("/").at(-2) ?? "";
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

function layOut(document, title) {
  const [summary, nav, main, footer] = ["p", "nav", "main", "footer"].map((tag) => create(document, tag));
  const heading = create(document, "h1", { textContent: title || "Safelight" });
  document.body.append(create(document, "header", {}, heading, summary, nav), main, footer);
  document.title = title ? `${title} · Safelight` : "Safelight";
  return {
    setSummary: (text) => (summary.textContent = text),
    setLinks: (links) => nav.replaceChildren(...links.map(([textContent, href]) => create(document, "a", { textContent, href }))),
    setNotes: (...texts) => footer.replaceChildren(...texts.filter(Boolean).map((textContent) => create(document, "p", { textContent }))),
    add(viewer) {
      main.append(viewer.element);
      viewer.focus();
    },
  };
}
