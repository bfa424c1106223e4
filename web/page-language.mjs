/** Shows a page outside of ComfyUI in the language of its browser. The page contains the texts of all languages. */

import { bestLanguage, setLanguage, textDirection } from "./language.mjs";

/**
 * The texts in a page, each in base64 of gzip of JSON. Translations are lists in the order of the keys.
 *
 * @typedef {object} PackedTexts
 * @property {string} keys the English texts
 * @property {Record<string, string>} languages their translations, by language
 *
 * @typedef {{texts: any[], patterns: any[]}} Lists of the viewer's own texts, and of those that Python writes
 */

/** Sets the browser's language, if the page has its texts. Where they cannot be read, the page is in English. @param {Document} document */
export async function useBrowserLanguage(document) {
  const element = document.getElementById("safelight-texts");
  const { languages: wanted = [] } = document.defaultView?.navigator ?? {};
  /** @type {PackedTexts} */
  const { keys, languages } = JSON.parse(element?.textContent ?? '{"keys": "", "languages": {}}');
  const language = bestLanguage(wanted, Object.keys(languages));
  if (language === "en") return;
  try {
    const [names, values] = await Promise.all([unpacked(keys), unpacked(languages[language])]);
    setLanguage(language, joined(names.texts, values.texts), joined(names.patterns, values.patterns));
  } catch {
    return; // a browser without DecompressionStream
  }
  Object.assign(document.documentElement, { lang: language, dir: textDirection() });
}

/** @param {string} base64 @returns {Promise<Lists>} */
async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

/** @param {string[]} keys @param {any[]} values null: not translated */
function joined(keys, values) {
  return Object.fromEntries(keys.map((key, i) => [key, values[i]]).filter(([, value]) => value !== null));
}
