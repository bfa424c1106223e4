/** The page around the viewer: of one run in its folder, or of the runs that `safelight view` serves. */

import { newestStep, startOf } from "./manifest.mjs";
import { Polled, WHILE_QUIET_MS } from "./polling-source.mjs";
import { readManifest } from "./sanitize.mjs";
import { Viewer } from "./viewer.mjs";

const ABOUT_A_RUN = [["Contact sheet", "sheet"], ["Animation", "animation"]];

/**
 * A source with one run, whose manifest is in the page and whose pictures lie beside it.
 *
 * @param {import("./types.mjs").Manifest} told
 * @returns {import("./types.mjs").Source}
 */
export function embedded(told) {
  // As of a moment that is long gone: how much longer it takes is not to be reckoned from it.
  const timeless = (step) => ({ ...step, at: null });
  const manifest = told.state === "running" ? { ...told, steps: told.steps.map(timeless) } : told;
  const run = {
    id: manifest.id,
    state: manifest.state,
    index: newestStep(manifest)?.index ?? null,
    total: manifest.sampler?.steps ?? null,
    started: startOf(manifest),
    written: startOf(manifest) ? startOf(manifest) + 1000 * (manifest.seconds ?? 0) : null,
    gone: false,
    manifest,
  };
  return {
    runs: () => [run],
    manifest: async () => manifest,
    picture: (id, file) => beside(file),
    onChange: () => () => {},
  };
}

/** The address of a file in the folder of the page. */
function beside(file) {
  return `./${encodeURIComponent(file)}`;
}

/** What a person would want to know of a run first, in one line. */
export function facts(manifest) {
  const { steps, name, scheduler, seed, cfg } = manifest.sampler ?? {};
  const when = startOf(manifest);
  const parts = [
    when ? new Date(when).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : null,
    steps == null ? null : `${steps} steps`,
    [name, scheduler].filter(Boolean).join(", "),
    seed == null ? null : `seed ${seed}`,
    cfg == null ? null : `cfg ${cfg}`,
  ];
  return parts.filter(Boolean).join(" · ");
}

/** What a page says that was written before its run had ended. */
export function asOf(manifest) {
  if (manifest.state !== "running") return "";
  const step = newestStep(manifest)?.index;
  const total = manifest.sampler?.steps;
  const at = step == null ? "before its first step" : `at step ${step}${total == null ? "" : ` of ${total}`}`;
  return `Written while the run was going on, ${at}. Reload for what came since; if nothing has, it was broken off here.`;
}

/** Begins: the page says within itself what it is about. @param {Document} document */
export function start(document) {
  const data = JSON.parse(document.getElementById("safelight").textContent);
  if (data.format) showRun(document, readManifest(data));
  else showRuns(document, data);
}

function showRun(document, manifest) {
  const folder = nameOfFolder(document.location.pathname);
  const links = ABOUT_A_RUN.filter(([, key]) => manifest[key]).map(([text, key]) => [text, manifest[key]]);
  const page = layOut(document, folder, [...links, ["run.json", "run.json"]]);
  page.say(facts(manifest));
  page.note(asOf(manifest), ...(manifest.notes.length > 1 ? manifest.notes : [])); // a single one is in the viewer
  page.put(new Viewer(document, embedded(manifest), { still: true }));
}

function showRuns(document, { folder }) {
  const page = layOut(document, folder, []);
  const source = new Polled((path) => fetch(path, { cache: "no-store" }));
  source.onChange(() => {
    const count = source.runs().filter(({ gone }) => !gone).length;
    page.say(source.reached ? `${count} ${count === 1 ? "run" : "runs"}` : "safelight view has ended; what was loaded stays");
  });
  page.put(new Viewer(document, source, { idle: "Runs appear here as they are written." }));
  const again = async () => {
    const pause = document.hidden ? WHILE_QUIET_MS : await source.look();
    setTimeout(again, pause);
  };
  again();
}

/** The last folder of a path, for people. */
export function nameOfFolder(path) {
  const name = path.split("/").at(-2) ?? "";
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

function layOut(document, title, links) {
  const make = (tag, text = "") => Object.assign(document.createElement(tag), { textContent: text });
  const [header, said, nav, main, footer] = ["header", "p", "nav", "main", "footer"].map((tag) => make(tag));
  for (const [text, file] of links) nav.append(Object.assign(make("a", text), { href: beside(file) }));
  header.append(make("h1", title || "Safelight"), said, nav);
  document.body.append(header, main, footer);
  document.title = title ? `${title} · Safelight` : "Safelight";
  return {
    say: (text) => (said.textContent = text),
    note: (...texts) => footer.replaceChildren(...texts.filter(Boolean).map((text) => make("p", text))),
    put(viewer) {
      main.append(viewer.element);
      viewer.focus();
    },
  };
}
