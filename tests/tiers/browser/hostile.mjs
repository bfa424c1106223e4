/**
 * Runs a workflow whose texts are all markup in ComfyUI in a real browser, and reports what the page contains.
 *
 * Reads `{url, chromium, profile, shots, hostile, decoder, prefix}` as JSON from stdin, writes JSON to stdout.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { clickOn, FIND_NODE, openBrowser, openTab, openWorkflow, queue, saveSettings, viewUntil } from "./page.mjs";

const input = JSON.parse(readFileSync(0, "utf8"));
await saveSettings(input.url);
const browser = await openBrowser(input.chromium, input.profile);
const { page } = await openTab(browser, input.url);
const dialogs = [];
page.on("dialog", (dialog) => {
  dialogs.push(dialog.message());
  dialog.dismiss();
});
const requests = [];
page.on("request", (request) => /hacked|\/x$/.test(request.url()) && requests.push(request.url()));

/** Sets the prompt, and every title and name. The prompt of the first run is plain, so that the runs differ. */
function setTexts(hostile, turn) {
  return page.evaluate(
    ({ find, hostile, turn }) => {
      const graph = window.app.graph;
      const of = (type) => graph.nodes.find((node) => node.type === type);
      let prompt = of("LabWords");
      if (!prompt) {
        prompt = window.LiteGraph.createNode("LabWords");
        prompt.pos = [60, 640];
        graph.add(prompt);
        of("LabModel").connect(1, prompt, 0);
        prompt.connect(0, of("KSampler"), of("KSampler").inputs.findIndex((input) => input.name === "positive"));
      }
      prompt.widgets.find((widget) => widget.name === "text").value = turn === 1 ? "plain words" : hostile;
      for (const node of graph.nodes) node.title = hostile;
      eval(find).properties["Node name for S&R"] = hostile;
    },
    { find: FIND_NODE, hostile, turn },
  );
}

const finished = (seen) => seen.state.includes("finished") && /^step (\d+) \/ \1$/.test(seen.step);
const preview = { decoder: input.decoder, filename_prefix: input.prefix, write_intermediates: true };
await openWorkflow(page, { name: input.hostile.slice(0, 40), model: { step_ms: 120 }, preview, sampler: { steps: 6, cfg: 1 } });
const seen = {};
for (const turn of [1, 2]) {
  await setTexts(input.hostile, turn);
  await queue(page, 1000 + turn, 6);
  seen[turn] = await viewUntil(page, (now) => finished(now) && now.runs.length >= turn && now.painted);
}
await clickOn(page, ".stage");
await page.keyboard.press("c");
seen.compared = await viewUntil(page, (now) => now.other && now.differences.length);
await page.screenshot({ path: join(input.shots, "hostile.png") });
const result = await page.evaluate((find) => {
  const root = eval(find).widgets.at(-1).element.shadowRoot;
  const elements = [...document.querySelectorAll("*"), ...root.querySelectorAll("*")];
  return {
    hacked: window.hacked ?? null,
    scripts: [...root.querySelectorAll("script, iframe, object, embed, svg[onload]")].length,
    handlers: elements.filter((element) => [...element.attributes].some(({ name, value }) => name.startsWith("on") && value.includes("hacked"))).length,
    foreign_pictures: [...root.querySelectorAll("img")].filter((img) => !/\/safelight\/runs\/|^blob:|^data:/.test(img.src)).length,
    links: [...root.querySelectorAll("a")].filter((link) => /^javascript:/i.test(link.href)).length,
    text: root.querySelector(".differences")?.textContent ?? "",
  };
}, FIND_NODE);
process.stdout.write(JSON.stringify({ ...result, seen, dialogs, requests }));
await browser.close();
