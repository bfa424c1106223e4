/**
 * Runs a workflow whose every word is markup, in a real browser before a real host, and tells what became of it.
 *
 * Reads `{url, chromium, profile, shots, hostile, decoder, prefix}` as JSON from stdin, writes JSON to stdout.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { clickOn, FIND_NODE, look, lookUntil, openBrowser, openTab, openWorkflow, queue } from "./page.mjs";

const asked = JSON.parse(readFileSync(0, "utf8"));
await fetch(`${asked.url}/api/settings`, { method: "POST", body: JSON.stringify({ "Comfy.TutorialCompleted": true }) });
const browser = await openBrowser(asked.chromium, asked.profile);
const { page } = await openTab(browser, asked.url);
const dialogs = [];
page.on("dialog", (dialog) => {
  dialogs.push(dialog.message());
  dialog.dismiss();
});
const strange = [];
page.on("request", (request) => /hacked|\/x$/.test(request.url()) && strange.push(request.url()));

/** Puts words between the model and the sampler, and into every title and name. */
function say(hostile, again) {
  return page.evaluate(
    ({ find, hostile, again }) => {
      const graph = window.app.graph;
      const of = (type) => graph.nodes.find((node) => node.type === type);
      let words = of("LabWords");
      if (!words) {
        words = window.LiteGraph.createNode("LabWords");
        words.pos = [60, 640];
        graph.add(words);
        of("LabModel").connect(1, words, 0);
        words.connect(0, of("KSampler"), of("KSampler").inputs.findIndex((input) => input.name === "positive"));
      }
      words.widgets.find((widget) => widget.name === "text").value = again === 1 ? "plain words" : hostile;
      for (const node of graph.nodes) node.title = hostile;
      eval(find).properties["Node name for S&R"] = hostile;
    },
    { find: FIND_NODE, hostile, again },
  );
}

const finished = (seen) => seen.state.includes("finished") && /^step (\d+) \/ \1$/.test(seen.step);
const preview = { decoder: asked.decoder, filename_prefix: asked.prefix, write_intermediates: true };
await openWorkflow(page, { name: asked.hostile.slice(0, 40), model: { step_ms: 120 }, preview, sampler: { steps: 6, cfg: 1 } });
const seen = {};
for (const turn of [1, 2]) {
  await say(asked.hostile, turn);
  await queue(page, 1000 + turn, 6);
  seen[turn] = await lookUntil(page, (now) => finished(now) && now.runs.length >= turn && now.painted);
}
await clickOn(page, ".stage");
await page.keyboard.press("c");
seen.compared = await lookUntil(page, (now) => now.other && now.differences.length);
await page.screenshot({ path: join(asked.shots, "hostile.png") });
const told = await page.evaluate((find) => {
  const root = eval(find).widgets.at(-1).element.shadowRoot;
  const everywhere = [...document.querySelectorAll("*"), ...root.querySelectorAll("*")];
  return {
    hacked: window.hacked ?? null,
    scripts: [...root.querySelectorAll("script, iframe, object, embed, svg[onload]")].length,
    handlers: everywhere.filter((element) => [...element.attributes].some(({ name, value }) => name.startsWith("on") && value.includes("hacked"))).length,
    strangers: [...root.querySelectorAll("img")].filter((img) => !/\/safelight\/runs\/|^blob:|^data:/.test(img.src)).length,
    links: [...root.querySelectorAll("a")].filter((link) => /^javascript:/i.test(link.href)).length,
    text: root.querySelector(".differences")?.textContent ?? "",
  };
}, FIND_NODE);
process.stdout.write(JSON.stringify({ ...told, seen, dialogs, strange }));
await browser.close();
