/** Translates what Python writes in English: the notes of a run, and the answers of a server. */

import { currentPatterns } from "./language.mjs";

const PLACEHOLDER = /\{(\w+)\}/g;
const SPECIAL = /[.*+?^${}()|[\]\\]/g;
// A run of others may have any notes. The time to compare one with all patterns must stay short.
const [MAX_CHARS, MAX_PARTS, MAX_SPLITS] = [600, 8, 8];
const NESTED = new Set(["error", "reason"]); // placeholders for what may be such a text itself
/** @typedef {{expression: RegExp, names: string[], translated: string, own: number}} Row `own`: number of its own characters */

/** @type {WeakMap<Record<string, string>, Row[]>} */
const compiled = new WeakMap(); // by the table of patterns

/**
 * A text in the current language. What no pattern matches, or is longer than our own texts, stays in English.
 *
 * @param {unknown} text a note, of which several may be joined: `one; another: their reason`
 * @returns {string} empty for nothing
 */
export function sentText(text) {
  const english = text == null ? "" : String(text);
  const rows = rowsOf(currentPatterns());
  if (!rows.length || !english || english.length > MAX_CHARS) return english;
  return matched(english, rows) ?? joined(english, rows) ?? english;
}

/** @param {string} text @param {Row[]} rows @returns {string | null} null if no row matches it */
function matched(text, rows) {
  for (const { expression, names, translated } of rows) {
    const found = expression.exec(text);
    if (!found) continue;
    const values = new Map(names.map((name, i) => [name, NESTED.has(name) ? (matched(found[i + 1], rows) ?? found[i + 1]) : found[i + 1]]));
    return translated.replace(PLACEHOLDER, (placeholder, name) => values.get(name) ?? placeholder);
  }
  return null;
}

/**
 * The translation of `one; another: their reason`, as `Run.note` in Python joins notes; null if a part is unknown.
 *
 * @param {string} text @param {Row[]} rows
 */
function joined(text, rows) {
  for (let at = text.indexOf(": "), splits = 0; splits < MAX_SPLITS; at = text.indexOf(": ", at + 1), splits++) {
    const [head, reason] = at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 2)];
    const parts = head.split("; ", MAX_PARTS + 1).map((part) => matched(part, rows));
    if (parts.length <= MAX_PARTS && parts.every((part) => part !== null)) return parts.join("; ") + (reason && `: ${matched(reason, rows) ?? reason}`);
    if (at < 0) break;
  }
  return null;
}

/** A regular expression for each pattern; those with the most words of their own first. @param {Record<string, string>} patterns */
function rowsOf(patterns) {
  const rows = compiled.get(patterns) ?? Object.entries(patterns).map(row).sort((a, b) => b.own - a.own);
  compiled.set(patterns, rows);
  return rows;
}

/** @param {[string, string]} pattern @returns {Row} */
function row([pattern, translated]) {
  const names = [...pattern.matchAll(PLACEHOLDER)].map(([, name]) => name);
  const parts = pattern.split(/\{\w+\}/);
  return { expression: new RegExp(`^${parts.map((part) => part.replace(SPECIAL, "\\$&")).join("(.+?)")}$`, "s"), names, translated, own: parts.join("").length };
}
