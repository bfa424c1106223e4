/** Defines the library's style for its shadow root. */

import { BASE_STYLE } from "./base-style.mjs";

export const LIBRARY_STYLE = `
:host { display: block; box-sizing: border-box; width: 100%; height: 100%; min-height: 320px; }
${BASE_STYLE}
.library {
  position: relative; display: flex; flex-direction: column; height: 100%; min-height: inherit; overflow: hidden; background: var(--background);
  color: var(--text); font: 12px/18px var(--font-inter, Inter), system-ui, sans-serif; font-variant-numeric: tabular-nums; container: library / inline-size;
}
.bar { display: flex; flex: none; flex-wrap: wrap; gap: 6px; padding: 8px; align-items: center; }
input, select, textarea {
  font: inherit; color: var(--text); background: color-mix(in srgb, var(--text) 7%, var(--background)); border: 1px solid color-mix(in srgb, var(--text) 45%, var(--background));
  border-radius: 6px; min-width: 0;
}
input, select { height: 28px; padding: 0 8px; }
select option { background: var(--background); color: var(--text); }
::placeholder { color: var(--quiet); opacity: 1; }
.search { flex: 1 1 220px; }
.sort { flex: 0 1 auto; }
.bar button, .actions button { width: 28px; height: 28px; color: var(--quiet); }
.bar button:hover, .actions button:hover:not(:disabled), .word:hover { color: var(--text); background: var(--line); }
.bar [aria-pressed="true"], .actions [aria-pressed="true"] { color: var(--accent); }
[aria-pressed="true"] .icon-star { fill: currentColor; }
.word { padding: 0 10px; height: 28px; width: auto; border: 1px solid color-mix(in srgb, var(--text) 45%, var(--background)); color: var(--text); white-space: nowrap; }
.bar .back { width: auto; padding: 0 10px 0 4px; display: flex; align-items: center; gap: 4px; color: var(--text); }
.status { flex: none; padding: 0 10px 6px; color: var(--quiet); min-height: 24px; overflow-wrap: anywhere; }
.status.waiting { color: var(--text); }

.main { position: relative; flex: 1; min-height: 0; }
.grid { position: absolute; inset: 0; overflow-y: auto; padding: 3px 8px 8px; outline-offset: -2px; }
.content { position: relative; contain: layout style; }
.grid-row { direction: ltr; position: absolute; left: 0; right: 0; display: flex; gap: 6px; }
.tile { position: relative; width: var(--tile); flex: none; cursor: pointer; border-radius: 6px; contain: layout paint style; }
.picture { position: relative; width: var(--tile); height: var(--tile); border-radius: 6px; overflow: hidden; background: var(--line); }
.picture img { display: block; width: 100%; height: 100%; object-fit: cover; -webkit-user-drag: none; }
.picture::after { content: ""; position: absolute; inset: 0; border-radius: 6px; pointer-events: none; box-shadow: inset 0 0 0 1px rgb(255 255 255 / 0.07); }
.tile[aria-selected="true"] .picture::after { box-shadow: inset 0 0 0 2px var(--accent), inset 0 0 0 3px var(--background); }
.tile.marked .picture::after { box-shadow: inset 0 0 0 3px var(--text), inset 0 0 0 4px var(--background); }
.tile .line { display: block; height: 17px; line-height: 17px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; padding: 0 2px; }
.tile .when { padding-top: 2px; height: 19px; }
.tile .words { color: var(--quiet); }
.tile .mark { position: absolute; top: 3px; inset-inline-end: 3px; width: 24px; height: 24px; border-radius: 6px; background: var(--overlay); color: #ececed; opacity: 0; }
.tile .mark[aria-pressed="true"] { color: var(--accent-on-dark); }
.tile:hover .mark, .tile[aria-selected="true"] .mark, .tile .mark[aria-pressed="true"] { opacity: 1; }
@media (hover: none) { .tile .mark { opacity: 1; } }
.tile .badge { position: absolute; inset-inline-start: 4px; bottom: 4px; padding: 0 6px; border-radius: 6px; background: var(--overlay); color: #ececed; font-size: 11px; line-height: 18px; pointer-events: none; }
.tile .badge:empty { display: none; }
.tile .noted { position: absolute; inset-inline-start: 4px; top: 4px; width: 20px; height: 20px; padding: 2px; border-radius: 6px; background: var(--overlay); color: #ececed; pointer-events: none; }
.tile .noted .icon { width: 16px; height: 16px; }
.empty { position: absolute; inset: 0; display: grid; place-content: center; padding: 24px; text-align: center; text-wrap: balance; color: var(--quiet); pointer-events: none; }
.empty:empty { display: none; }
.viewing { position: absolute; inset: 0; }

/* Always as high: no tile may move when the user goes to another one. */
.inspector { flex: none; display: flex; flex-direction: column; height: clamp(150px, 36%, 260px); border-top: 1px solid var(--line); padding: 6px 10px 8px; gap: 4px; }
.head { display: flex; flex: none; flex-wrap: wrap; align-items: center; column-gap: 10px; }
.title { font-size: 12px; font-weight: 600; }
.state { color: var(--quiet); }
.actions { display: flex; flex-wrap: wrap; margin-inline-start: auto; }
.body { flex: 1; overflow-y: auto; display: grid; align-content: start; gap: 6px; min-height: 0; border-radius: 4px; }
.prompt { overflow-wrap: anywhere; white-space: pre-line; user-select: text; }
.prompt:empty { display: none; }
.facts { display: grid; grid-template-columns: auto 1fr; gap: 1px 10px; user-select: text; }
.facts dt { color: var(--quiet); }
.facts dd { overflow-wrap: anywhere; min-width: 0; }
.note-label { display: grid; gap: 2px; color: var(--quiet); }
textarea { padding: 4px 8px; resize: vertical; min-height: 44px; line-height: 18px; }
.links { display: flex; flex-wrap: wrap; gap: 4px 14px; }
a { color: var(--text); text-underline-offset: 3px; border-radius: 2px; }

.trash { position: absolute; inset: 0; overflow-y: auto; padding: 8px 10px; background: var(--background); }
.trash ul { list-style: none; display: grid; gap: 4px; margin: 8px 0; }
.trash li { display: flex; gap: 10px; align-items: center; justify-content: space-between; }
.trash li span { overflow-wrap: anywhere; }
.trash .place { color: var(--quiet); }
.said { position: absolute; left: 8px; right: 8px; bottom: 8px; z-index: 2; display: flex; gap: 10px; align-items: center; justify-content: space-between; padding: 6px 6px 6px 12px; border-radius: 8px; background: #1b1b1d; color: #ececed; box-shadow: 0 2px 10px rgb(0 0 0 / 0.35); overflow-wrap: anywhere; }
.said:has(.words:empty) { display: none; }
.said .word { color: #ececed; border-color: #8a8b8f; flex: none; }
.said .word:hover { background: rgb(255 255 255 / 0.14); color: #fff; }
@container library (min-width: 620px) {
  .facts { grid-template-columns: auto 1fr auto 1fr; }
}
@container library (max-width: 420px) {
  .search { flex-basis: 100%; }
  .sort { flex: 1 1 100px; }
  .actions { margin-inline-start: -6px; flex-basis: 100%; }
}
`;
