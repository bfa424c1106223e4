/** Texts in the current language: placeholders, plurals, numbers, and the choice of a language. */

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { followLanguage } from "../../web/comfy-language.mjs";
import { bestLanguage, currentLanguage, date, decimal, later, plural, setLanguage, t, textDirection, whole } from "../../web/language.mjs";
import { sentText } from "../../web/sent-texts.mjs";

afterEach(() => setLanguage("en", {}));

test("without a translation the text is in English, with its values", () => {
  assert.equal(t("step {step} of {total}", { step: 3, total: 20 }), "step 3 of 20");
  assert.equal(t(later("{name} is installed"), { name: "{step}" }), "{step} is installed");
  assert.equal(t("a {missing} value"), "a {missing} value");
  assert.deepEqual([0, 1, 2].map((count) => plural(count, "{count} run", "{count} runs")), ["0 runs", "1 run", "2 runs"]);
});

test("a translation may have its values in another order", () => {
  setLanguage("de", { "step {step} of {total}": "von {total}: {step}" });
  assert.equal(t("step {step} of {total}", { step: 3, total: 20 }), "von 20: 3");
  assert.equal(t("not translated"), "not translated");
});

test("a number has the form of its language", () => {
  setLanguage("ru", { "{count} runs": { one: "{count} a", few: "{count} b", many: "{count} c", other: "{count} d" } });
  assert.deepEqual([1, 2, 5, 21].map((count) => plural(count, "{count} run", "{count} runs")), ["1 a", "2 b", "5 c", "21 a"]);
  setLanguage("ja", { "{count} runs": "{count} x" });
  assert.equal(plural(1, "{count} run", "{count} runs"), "1 x");
  setLanguage("fr", { "{count} runs": { one: "{count} a", other: "{count} b" } });
  assert.equal(plural(1_000_000, "{count} run", "{count} runs"), "1000000 b", "a form that is missing is that for others");
});

test("numbers and dates follow the language", () => {
  assert.deepEqual([decimal(0.315, 2), decimal(2, 2, 0), decimal(1234.5, 1)], ["0.32", "2", "1234.5"]);
  setLanguage("de", {});
  assert.deepEqual([decimal(0.5, 1), decimal(0.5, 2, 0)], ["0,5", "0,5"]);
  assert.match(date(new Date(2026, 4, 3), { month: "long" }), /Mai/);
  setLanguage("ar", {});
  assert.deepEqual([decimal(0.5, 1).replace(/\D/g, ""), whole(12), textDirection()], ["05", "12", "rtl"]);
});

test("the language that suits the user best is chosen", () => {
  const offered = ["de", "pt-BR", "zh", "zh-TW"];
  const wanted = { "de-AT": "de", pt: "pt-BR", "pt-PT": "pt-BR", "zh-CN": "zh", "zh-HK": "zh-TW", "zh-Hant": "zh-TW", nl: "en", "not a language": "en" };
  for (const [name, expected] of Object.entries(wanted)) assert.equal(bestLanguage([name], offered), expected, name);
  assert.equal(bestLanguage(["nl", "de"], offered), "de", "the second choice of the user");
  assert.equal(bestLanguage(["en-GB", "de"], offered), "en");
  assert.equal(bestLanguage(["zh-TW"], ["zh"]), "en", "no simplified characters for traditional ones");
});

const PATTERNS = {
  "{place} failed": "{place} ging nicht",
  "the node failed: {error}": "der Node brach ab: {error}",
  "your rule would end this run, but it goes on: {reason}": "die Regel gilt nicht: {reason}",
  "its latents are not saved": "die Latents fehlen",
  "step {step} not shown": "Schritt {step} fehlt",
};

test("a note is translated by its pattern, with a reason that is a note itself", () => {
  setLanguage("de", {}, PATTERNS);
  assert.equal(sentText("the node failed: ValueError: a: b"), "der Node brach ab: ValueError: a: b");
  assert.equal(sentText("your rule would end this run, but it goes on: its latents are not saved"), "die Regel gilt nicht: die Latents fehlen");
  assert.equal(sentText("unknown to the table"), "unknown to the table");
  assert.deepEqual([sentText(undefined), sentText(null), sentText("")], ["", "", ""]);
});

test("notes that are joined are translated one by one", () => {
  setLanguage("de", {}, PATTERNS);
  assert.equal(sentText("sheet failed; step 7 not shown: OSError: no space"), "sheet ging nicht; Schritt 7 fehlt: OSError: no space");
  assert.equal(sentText("sheet failed; an unknown part"), "sheet failed; an unknown part");
});

test("a note that is longer than ours, or has more parts, is not compared with the patterns", () => {
  setLanguage("de", {}, PATTERNS);
  for (const note of [`the node failed: ${"a".repeat(600)}`, Array(9).fill("its latents are not saved").join("; ")]) assert.equal(sentText(note), note);
  assert.equal(sentText(Array(8).fill("its latents are not saved").join("; ")), Array(8).fill("die Latents fehlen").join("; "));
});

test("without patterns a note stays as it is", () => {
  assert.equal(sentText("the node failed: x"), "the node failed: x");
});

/** The settings of ComfyUI, as far as a language needs them. */
class Settings extends EventTarget {
  constructor(language) {
    super();
    this.language = language;
  }

  getSettingValue(id) {
    return id === "Comfy.Locale" ? this.language : undefined;
  }
}

const answering = (asked) => async (path) => {
  asked.push(path);
  const language = path.split("/").at(-1);
  return language === "de" ? { ok: true, json: async () => ({ language, texts: { Step: "Schritt" }, patterns: {} }) } : { ok: false };
};

test("in ComfyUI the language is that of its settings, and follows them", async () => {
  const [asked, settings] = [[], new Settings("de")];
  let resolve;
  const changed = new Promise((done) => (resolve = done));
  await followLanguage(settings, answering(asked), resolve);
  assert.deepEqual([currentLanguage(), t("Step")], ["de", "Schritt"]);
  const event = new Event("Comfy.Locale.change");
  event.detail = { value: "en" };
  settings.dispatchEvent(event);
  await changed;
  assert.deepEqual([currentLanguage(), t("Step"), asked], ["en", "Step", ["/safelight/texts/de"]]);
});

test("where the texts cannot be loaded, the viewer is in English", async () => {
  for (const [language, request] of [["fa", answering([])], ["de", async () => Promise.reject(new Error("no network"))], [undefined, answering([])]]) {
    await followLanguage(new Settings(language), request, () => {});
    assert.deepEqual([currentLanguage(), t("Step")], ["en", "Step"]);
  }
});
