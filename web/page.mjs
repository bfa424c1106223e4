/** Starts the page around the viewer: of one run in its folder, or of all runs that `safelight view` serves. */

import { newestStep, startMs } from "./manifest.mjs";
import { IDLE_INTERVAL_MS, PollingSource } from "./polling-source.mjs";
import { readManifest } from "./sanitize.mjs";
import { Viewer } from "./viewer.mjs";

const PRODUCTS = [["Contact sheet", "sheet"], ["Animation", "animation"]];

/**
 * A source of one run, whose manifest is part of the page. Its pictures are files in the folder of the page.
 *
 * @param {import("./types.mjs").Manifest} saved
 * @returns {import("./types.mjs").Source}
 */
export function embeddedSource(saved) {
  // The page may be old, so the times of its steps must not become an estimate of the time left.
  const untimed = (step) => ({ ...step, at: null });
  const manifest = saved.state === "running" ? { ...saved, steps: saved.steps.map(untimed) } : saved;
  const started = startMs(manifest);
  const run = {
    id: manifest.id,
    state: manifest.state,
    index: newestStep(manifest)?.index ?? null,
    total: manifest.sampler?.steps ?? null,
    started,
    written: started ? started + 1000 * (manifest.seconds ?? 0) : null,
    gone: false,
    manifest,
  };
  return {
    runs: () => [run],
    manifest: async () => manifest,
    picture: (id, file) => fileAddress(file),
    onChange: () => () => {},
  };
}

/** The address of a file in the folder of the page. */
function fileAddress(file) {
  return `./${encodeURIComponent(file)}`;
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

/** Starts the page, whose data are a manifest, or the name of the folder that is served. @param {Document} document */
export function start(document) {
  const data = JSON.parse(document.getElementById("safelight").textContent);
  if (data.format) showRun(document, readManifest(data));
  else showRuns(document, data);
}

function showRun(document, manifest) {
  const links = PRODUCTS.filter(([, key]) => manifest[key]).map(([text, key]) => [text, manifest[key]]);
  const page = layOut(document, folderName(document.location.pathname), [...links, ["run.json", "run.json"]]);
  page.setSummary(runSummary(manifest));
  page.setNotes(unfinishedNote(manifest), ...(manifest.notes.length > 1 ? manifest.notes : [])); // the viewer shows a single note
  page.add(new Viewer(document, embeddedSource(manifest), { still: true }));
}

function showRuns(document, { folder }) {
  const page = layOut(document, folder, []);
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

function layOut(document, title, links) {
  const create = (tag, text = "") => Object.assign(document.createElement(tag), { textContent: text });
  const [header, summary, nav, main, footer] = ["header", "p", "nav", "main", "footer"].map((tag) => create(tag));
  for (const [text, file] of links) nav.append(Object.assign(create("a", text), { href: fileAddress(file) }));
  header.append(create("h1", title || "Safelight"), summary, nav);
  document.body.append(header, main, footer);
  document.title = title ? `${title} · Safelight` : "Safelight";
  return {
    setSummary: (text) => (summary.textContent = text),
    setNotes: (...texts) => footer.replaceChildren(...texts.filter(Boolean).map((text) => create("p", text))),
    add(viewer) {
      main.append(viewer.element);
      viewer.focus();
    },
  };
}
