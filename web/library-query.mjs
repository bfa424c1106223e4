/** Searches and sorts the runs of a library. */

import { later } from "./language.mjs";
import { dayOf, whenLabel } from "./library-entry.mjs";

/** @typedef {import("./library-entry.mjs").Entry} Entry */

const TERM = /(-)?(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))/gi;

/** @typedef {{of: (entry: Entry) => unknown, whole?: boolean}} Field */

/** The texts that a named term searches, and whether it must be the whole text. @type {Record<string, Field>} */
const FIELDS = {
  prompt: { of: ({ prompt }) => prompt },
  model: { of: ({ model }) => model },
  sampler: { of: ({ sampler }) => sampler.name },
  scheduler: { of: ({ sampler }) => sampler.scheduler },
  seed: { of: ({ sampler }) => sampler.seed, whole: true },
  steps: { of: ({ total }) => total, whole: true },
  cfg: { of: ({ sampler }) => sampler.cfg, whole: true },
  decoder: { of: ({ decoder }) => decoder },
  folder: { of: ({ folder }) => folder },
  note: { of: ({ note }) => note },
  host: { of: ({ host }) => host },
  date: { of: (entry) => `${dayOf(entry)} ${whenLabel(entry)}` },
  is: { of: (entry) => [entry.state, entry.star && "starred", entry.live && "live", !entry.live && "saved", entry.note && "noted"].filter(Boolean).join(" ") },
};
export const FIELD_NAMES = Object.keys(FIELDS);

/** @param {unknown} value */
const fold = (value) => String(value ?? "").toLowerCase();

/** Everything that a plain word is searched in. Created once for each entry, when it is first searched. @type {WeakMap<Entry, string>} */
const searched = new WeakMap();

/** @param {Entry} entry */
function searchedText(entry) {
  const known = searched.get(entry);
  if (known !== undefined) return known;
  const { sampler, size } = entry;
  const texts = Object.values(FIELDS).map(({ of }) => of(entry));
  const text = fold([...texts, sampler.seed, size && `${size.width}x${size.height}`].join("\n"));
  searched.set(entry, text);
  return text;
}

/**
 * A function that tells whether an entry matches a search. All words must match, in any order and case: `lighthouse`,
 * `"at dawn"`, `seed:42`, `date:2026-11`, `-euler`.
 *
 * @param {string} query @returns {(entry: Entry) => boolean}
 */
export function matcher(query) {
  const terms = [...query.matchAll(TERM)].map(([, minus, name = "", quoted, word]) => {
    const field = Object.hasOwn(FIELDS, name.toLowerCase()) ? FIELDS[name.toLowerCase()] : null;
    const wanted = fold(quoted ?? word);
    return { without: minus !== undefined, field, wanted: field || !name ? wanted : fold(`${name}:${wanted}`) };
  });
  /** @param {Entry} entry @param {{field: Field | null, wanted: string}} term */
  const has = (entry, { field, wanted }) => {
    if (!field) return searchedText(entry).includes(wanted);
    const text = fold(field.of(entry));
    return field.whole ? text === wanted : text.includes(wanted);
  };
  return (entry) => terms.every((term) => !term.wanted || has(entry, term) !== term.without);
}

const compareTexts = new Intl.Collator([], { numeric: true }).compare;
/** @typedef {(a: Entry, b: Entry) => number} Order */

/** @param {(entry: Entry) => string} of @returns {Order} */
const byText = (of) => (a, b) => Number(!of(a)) - Number(!of(b)) || compareTexts(of(a), of(b));
/** @type {Order} */
const newest = (a, b) => b.started - a.started;

/**
 * The orders of a library, by name; where one says nothing, the newest run is first.
 *
 * @type {Record<string, {label: string, compare: Order}>}
 */
export const SORTS = {
  newest: { label: later("Newest first"), compare: newest },
  oldest: { label: later("Oldest first"), compare: (a, b) => a.started - b.started },
  starred: { label: later("Starred first"), compare: (a, b) => Number(b.star) - Number(a.star) },
  folder: { label: later("By folder"), compare: byText(({ folder }) => folder ?? "") },
  model: { label: later("By model"), compare: byText(({ model }) => model) },
  seed: { label: later("By seed"), compare: byText(({ sampler }) => String(sampler.seed ?? "")) },
  prompt: { label: later("By prompt"), compare: byText(({ prompt }) => prompt) },
};

/**
 * The entries that a user wants to see, in order.
 *
 * @param {Entry[]} entries @param {{query: string, sort: string, starred: boolean}} view
 */
export function shownEntries(entries, { query, sort, starred }) {
  const matches = matcher(query);
  const { compare } = SORTS[sort] ?? SORTS.newest;
  return entries.filter((entry) => (!starred || entry.star) && matches(entry)).sort((a, b) => compare(a, b) || newest(a, b));
}
