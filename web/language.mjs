/** Translates the texts of the viewer. A text is its own key in English, which is shown until a translation is set. */

const PLACEHOLDER = /\{(\w+)\}/g;
const RIGHT_TO_LEFT = ["ar"];
const LATIN_DIGITS = "-u-nu-latn"; // as in file names, and on ComfyUI's own nodes

/**
 * @typedef {Record<string, string | Record<string, string>>} Texts translations by English text; that of a text with a
 *   number may have a form for each category of `Intl.PluralRules`
 */

/** @type {{language: string, texts: Texts, patterns: Record<string, string>}} */
let current = { language: "en", texts: {}, patterns: {} };
/** @type {Map<string, unknown>} */
const formats = new Map(); // by their options: creating one takes as long as drawing the viewer

/**
 * Sets the language of all texts that are created from now on.
 *
 * @param {string} language as in HTML's `lang`
 * @param {Texts} texts @param {Record<string, string>} [patterns] of the texts that Python writes in English, see `sent-texts.mjs`
 */
export function setLanguage(language, texts, patterns = {}) {
  current = { language, texts, patterns };
  formats.clear();
}

/** The translations of the texts that Python writes, by their patterns in English. */
export function currentPatterns() {
  return current.patterns;
}

/** The language of the texts, as in HTML's `lang`. */
export function currentLanguage() {
  return current.language;
}

/** The direction of the texts. @returns {"ltr" | "rtl"} */
export function textDirection() {
  return RIGHT_TO_LEFT.includes(current.language) ? "rtl" : "ltr";
}

/**
 * A text in the current language.
 *
 * @param {string} text in English, with placeholders such as `{step}`
 * @param {Record<string, unknown>} [values] of the placeholders
 */
export function t(text, values = {}) {
  const translated = current.texts[text];
  return fill(typeof translated === "string" ? translated : text, values);
}

/**
 * A text that depends on a number, which is `{count}` in it.
 *
 * @param {number} count
 * @param {string} one in English, for 1
 * @param {string} many in English, for other numbers; the key of its translation
 * @param {Record<string, unknown>} [values] of the other placeholders
 */
export function plural(count, one, many, values = {}) {
  const forms = current.texts[many];
  const category = format("plural", () => new Intl.PluralRules(current.language)).select(count);
  const translated = typeof forms === "object" ? (forms[category] ?? forms.other) : forms;
  return fill(translated ?? (count === 1 ? one : many), { count, ...values });
}

/** Marks a text that is translated only when it is shown. @param {string} text @returns {string} the same text */
export const later = (text) => text;

/**
 * A number with digits after the decimal sign.
 *
 * @param {number} value @param {number} digits @param {number} [atLeast] digits that are shown even if they are zeros
 */
export function decimal(value, digits, atLeast = digits) {
  const options = { minimumFractionDigits: atLeast, maximumFractionDigits: digits, useGrouping: false };
  return format(`decimal ${digits} ${atLeast}`, () => new Intl.NumberFormat(current.language + LATIN_DIGITS, options)).format(value);
}

/** A whole number with separators. @param {number} value */
export function whole(value) {
  return format("whole", () => new Intl.NumberFormat(tag())).format(value);
}

/** A date, a time or both. @param {number | Date} at @param {Intl.DateTimeFormatOptions} options */
export function date(at, options) {
  return format(`date ${JSON.stringify(options)}`, () => new Intl.DateTimeFormat(tag(), options)).format(at);
}

/**
 * The offered language that suits a user best.
 *
 * @param {readonly string[]} wanted the user's languages, the preferred one first, such as `de-AT`
 * @param {string[]} offered such as `de` or `pt-BR`
 * @returns {string} `en` if none suits
 */
export function bestLanguage(wanted, offered) {
  const known = ["en", ...offered];
  for (const name of wanted) {
    const { language, region, script } = maximized(name);
    const named = [`${language}-${region}`, script === "Hant" ? "zh-TW" : language];
    const found = named.map((candidate) => known.find((name) => name === candidate)).find(Boolean);
    const other = found ?? (script === "Hant" ? undefined : known.find((name) => name.split("-")[0] === language && language !== "zh"));
    if (other) return other;
  }
  return "en";
}

/** @param {string} name of a language */
function maximized(name) {
  try {
    return new Intl.Locale(name).maximize();
  } catch {
    return { language: "", region: "", script: "" }; // not a language
  }
}

/** The language for dates: with the user's own country, if the browser has the same language; undefined for that of the browser. */
function tag() {
  if (current.language === "en") return undefined; // dates as in the user's other programs
  const own = globalThis.navigator?.languages?.find((name) => name.split("-")[0] === current.language.split("-")[0]);
  return (own ?? current.language) + (textDirection() === "rtl" ? LATIN_DIGITS : "");
}

/** @template Format @param {string} name @param {() => Format} create @returns {Format} */
function format(name, create) {
  if (!formats.has(name)) formats.set(name, create());
  return /** @type {Format} */ (formats.get(name));
}

/** @param {string} text @param {Record<string, unknown>} values */
function fill(text, values) {
  return text.replace(PLACEHOLDER, (placeholder, name) => (Object.hasOwn(values, name) ? String(values[name]) : placeholder));
}
