/** Defines the viewer's style for its shadow root, where only the variables of the host's style sheets apply. */

import { BASE_STYLE } from "./base-style.mjs";

export const MIN_HEIGHT_PX = 280;
export const CHROME_HEIGHT_PX = 40 + 26 + 52; // strip, caption, list of runs

export const STYLE = `
:host { display: block; box-sizing: border-box; width: 100%; height: 100%; min-height: ${MIN_HEIGHT_PX}px; }
${BASE_STYLE}
.icon-play { fill: currentColor; }
.icon-pause { stroke-width: 2.4; }
.icon-noise { stroke-width: 2.2; }

.viewer {
  position: relative; display: flex; flex-direction: column; height: 100%; min-height: inherit; overflow: hidden;
  background: var(--background); border-radius: var(--safelight-radius, 8px); color: var(--text);
  font: 12px/26px var(--font-inter, Inter), system-ui, sans-serif; font-variant-numeric: tabular-nums;
  user-select: none; -webkit-user-select: none; container: viewer / inline-size; pointer-events: auto;
}
dialog {
  position: fixed; inset: 0; width: 100vw; height: 100vh; max-width: none; max-height: none; border: 0; background: none;
  overflow: hidden; pointer-events: auto;
}
/* Not :focus-visible: after a click, too, the user must see that the keys belong to the viewer. */
.viewer:focus { outline: none; }
.viewer:focus::after {
  content: ""; position: absolute; inset: 0; border-radius: inherit;
  border: 1px solid var(--safelight-ring, color-mix(in srgb, var(--accent) 75%, transparent));
  pointer-events: none;
}
dialog .viewer { border-radius: 0; height: 100%; }
dialog .viewer:focus::after { content: none; }
dialog::backdrop { background: var(--background, #17181a); }

/* Time, and the place of two compared pictures, go from left to right in every language. */
.strip, .film, .row, .frames, .progress, .truth-curve, .comparing { direction: ltr; }

/* A new step changes only what is inside these parts: the page around them is not laid out again. */
.stage, .strip, .caption, .runs { contain: strict; }

/* The pictures */
.stage { position: relative; flex: 1; min-height: 0; overflow: hidden; touch-action: none; isolation: isolate; }
.pane { position: absolute; inset: 0; overflow: hidden; }
.board, .cell { position: absolute; }
.cell { overflow: hidden; }
.cell :is(img, canvas) { display: block; width: 100%; height: 100%; object-fit: contain; -webkit-user-drag: none; }
.cell:not(:only-child) { cursor: zoom-in; }
.nearest :is(img, canvas) { image-rendering: pixelated; }
.behind .board { opacity: 0.22; }
.zoomed { cursor: grab; }
.zoomed.dragging { cursor: grabbing; }
.stage[data-mode="one"] .pane + .pane { display: none; }
.stage[data-mode="wipe"] { cursor: ew-resize; }
.stage[data-mode="wipe"] .pane + .pane { clip-path: inset(0 0 0 var(--wipe)); }
.stage[data-mode="wipe"] .pane + .pane .board { background: var(--background); }
.stage[data-mode="side"] .pane { right: calc(50% + 1px); }
.stage[data-mode="side"] .pane + .pane { left: calc(50% + 1px); right: 0; }
.stage.stacked[data-mode="side"] .pane { right: 0; bottom: calc(50% + 1px); }
.stage.stacked[data-mode="side"] .pane + .pane { left: 0; top: calc(50% + 1px); bottom: 0; }
.stage[data-mode="difference"] .pane + .pane { mix-blend-mode: difference; }
.stage[data-mode="difference"] .pane { background: #000; }
.gain { position: absolute; inset: 0; isolation: isolate; }
[data-mode="difference"] .gain { filter: brightness(4); }
.wipe { position: absolute; top: 36px; bottom: 36px; left: var(--wipe); width: 2px; margin-left: -1px; background: rgb(255 255 255 / 0.9); box-shadow: 0 0 4px rgb(0 0 0 / 0.6); }
.wipe::after {
  content: ""; position: absolute; top: 50%; left: -9px; width: 20px; height: 20px; margin-top: -10px; border-radius: 50%;
  background: rgb(255 255 255 / 0.95); box-shadow: 0 1px 5px rgb(0 0 0 / 0.5);
}
.placeholder {
  position: absolute; inset: 0; display: grid; place-content: center; padding: 0 24px; text-align: center; text-wrap: balance;
  line-height: 1.5; color: var(--quiet); pointer-events: none; animation: appear 0.2s 0.4s backwards;
}
.placeholder:empty { display: none; }
@keyframes appear { from { opacity: 0; } }

/* Over the picture */
.over { position: absolute; left: 0; right: 0; display: flex; gap: 6px; padding: 6px; pointer-events: none; color: #ececed; line-height: 20px; }
.over > * { pointer-events: auto; }
.over.top { top: 0; flex-direction: column; align-items: stretch; }
.over.bottom { bottom: 0; align-items: flex-end; justify-content: flex-end; flex-wrap: wrap-reverse; }
.note { display: flex; gap: 6px; padding: 4px 4px 4px 9px; border-radius: 7px; background: var(--overlay); color: #ffd9a0; line-height: 1.45; }
.note:has(.note-text:empty) { display: none; }
.note .note-text { flex: 1; align-self: center; height: auto; text-align: start; font-size: 12px; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; overflow-wrap: anywhere; user-select: text; }
.note .note-text[aria-expanded="true"] { -webkit-line-clamp: none; max-height: 60%; }
.note .note-text:hover { background: none; }
.note .offer { align-self: center; padding: 0 8px; white-space: nowrap; color: var(--accent-on-dark); }
.note .offer[hidden] { display: none; }
.note.failed { color: #ffb3ad; }
.tools { display: flex; background: var(--overlay); border-radius: 7px; margin-inline-start: auto; }
.tools [data-of]:not([data-of=""]) { display: flex; align-items: center; gap: 5px; padding: 0 6px 0 4px; }
.tools [data-of]::after { content: attr(data-of); }
.tools [aria-pressed="true"], .tools [aria-expanded="true"] { color: var(--accent-on-dark); }
.tools button:hover, .live:hover, .choice button:hover, .note button:not(.note-text):hover { color: #fff; background: rgb(255 255 255 / 0.14); }
.fading { opacity: 0; transition: opacity 0.15s; }
.viewer:hover .fading, .viewer:focus-within .fading, dialog .fading { opacity: 1; }
@media (hover: none) { .fading { opacity: 1; } }
.empty .tools, .empty .live { display: none; }
.live { display: flex; align-items: center; gap: 6px; padding: 0 9px; background: var(--overlay); border-radius: 7px; color: #b9babd; }
.live::before { content: ""; width: 7px; height: 7px; border-radius: 50%; box-shadow: inset 0 0 0 1.4px currentColor; }
.live[data-is="live"] { color: #fff; }
.live[data-is="live"]::before { background: var(--accent-on-dark); box-shadow: 0 0 6px var(--accent-on-dark); }
.live[data-is="locked"] { color: #fff; }
.live[data-is="locked"]::before { border-radius: 1.5px; background: var(--accent-on-dark); box-shadow: none; }
.control { display: flex; background: var(--overlay); border-radius: 7px; }
.control button:hover { color: #fff; background: rgb(255 255 255 / 0.14); }
.control .keep:not(:has(svg)) { padding: 0 8px; color: var(--accent-on-dark); }
.control [aria-pressed="true"] { color: var(--accent-on-dark); }
.control [aria-disabled="true"] { opacity: 0.45; }
.keys { inset: 0; padding: 10px 12px; overflow-y: auto; pointer-events: auto; background: rgb(18 18 20 / 0.88); cursor: pointer; line-height: 18px; }
.keys dl { display: grid; grid-template-columns: auto 1fr; gap: 1px 12px; margin: auto; }
.keys dt { color: #fff; font-weight: 600; white-space: nowrap; }
.keys dd { color: #c9cacd; }
.figures { inset: 0; flex-direction: column; gap: 8px; padding: 8px 0 0; overflow-y: auto; pointer-events: auto; background: rgb(18 18 20 / 0.88); cursor: pointer; line-height: 17px; }
.figures dl { display: grid; grid-template-columns: auto 1fr; gap: 3px 12px; padding: 0 12px; }
.figures dt { color: #fff; font-weight: 600; white-space: nowrap; }
.figures dd { color: #c9cacd; user-select: text; }
.figures figure:first-of-type { margin-top: auto; }
.figures figcaption { display: flex; justify-content: space-between; flex-wrap: wrap; column-gap: 12px; padding: 0 12px 3px; color: #c9cacd; }
.figures svg { display: block; }
.figures .bars { fill: var(--accent-on-dark); }
.menu { position: absolute; inset-inline-end: 6px; bottom: 36px; z-index: 1; max-width: calc(100% - 12px); max-height: calc(100% - 42px); overflow-y: auto; padding: 4px; border-radius: 8px; background: rgb(18 18 20 / 0.94); color: #ececed; box-shadow: 0 3px 14px rgb(0 0 0 / 0.4); cursor: default; }
.menu [role="group"] + [role="group"] { margin-top: 4px; padding-top: 4px; border-top: 1px solid rgb(255 255 255 / 0.16); }
.menu button { display: block; width: 100%; height: auto; min-height: 24px; padding: 4px 9px; text-align: start; font-size: 12px; line-height: 16px; overflow-wrap: anywhere; }
.menu button:is(:hover, :focus-visible) { color: #fff; background: rgb(255 255 255 / 0.14); }
.menu button[aria-disabled] { color: #9a9b9f; }
.toast { position: absolute; inset-inline-start: 6px; bottom: 38px; max-width: calc(100% - 12px); padding: 2px 9px; border-radius: 7px; background: var(--overlay); opacity: 0; transition: opacity 0.2s; pointer-events: none; }
.toast.shown { opacity: 1; }
.comparing { display: flex; gap: 6px; align-items: center; justify-content: center; flex-wrap: wrap; }
.tag { padding: 2px 8px; border-radius: 7px; background: var(--overlay); white-space: nowrap; }
.tag.A { margin-right: auto; }
.tag.B { margin-left: auto; }
.choice { display: flex; border-radius: 7px; background: var(--overlay); }
.choice button { padding: 0 4px; color: #b9babd; }
.choice [aria-pressed="true"] { color: var(--accent-on-dark); }
.differences { align-self: flex-start; max-width: 100%; padding: 2px 9px; border-radius: 7px; background: var(--overlay); line-height: 20px; overflow: hidden; }
.differences summary { cursor: pointer; color: #b9babd; border-radius: 4px; }
.differences dl { display: grid; grid-template-columns: auto auto auto; gap: 0 12px; max-height: 8em; overflow-y: auto; padding-bottom: 3px; }
.differences dt { color: #b9babd; }
.differences dd { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 22ch; min-width: 0; }
dialog .differences dd { max-width: 48ch; white-space: normal; }
.frames { display: flex; flex: 1 0 100%; align-items: center; gap: 8px; height: 24px; padding-right: 9px; border-radius: 7px; background: var(--overlay); touch-action: none; }
.frames .rail { position: relative; flex: 1; height: 24px; cursor: pointer; }
.frames .rail::before, .frames .rail::after { content: ""; position: absolute; left: 0; top: 11px; height: 2px; border-radius: 1px; width: 100%; background: rgb(255 255 255 / 0.25); }
.frames .rail::after { width: calc(var(--frame) * 100%); background: var(--accent-on-dark); }
.frames.whole .rail { cursor: default; }

/* The strip */
.strip { position: relative; flex: none; height: 40px; cursor: ew-resize; touch-action: none; }
.strip svg { display: block; position: absolute; inset: 0; fill: none; stroke: none; }
.strip .area, .strip .done-area { fill: color-mix(in srgb, var(--text) 4%, transparent); }
.strip .lit-area { fill: url(#lit); }
.strip stop { stop-color: var(--accent); stop-opacity: 0.3; }
.strip stop + stop { stop-opacity: 0.06; }
.strip .line { stroke: color-mix(in srgb, var(--text) 20%, transparent); stroke-dasharray: 1 3; stroke-linecap: round; }
.strip .done-line { stroke: color-mix(in srgb, var(--text) 38%, transparent); }
.strip .lit-line { stroke: var(--accent); stroke-width: 1.5; }
.strip .ticks { stroke: color-mix(in srgb, var(--text) 45%, transparent); }
.strip .lit-ticks { stroke: var(--accent); }
.strip .bars { fill: color-mix(in srgb, var(--text) 30%, transparent); }
.strip .lit-bars { fill: color-mix(in srgb, var(--accent) 75%, transparent); }
.strip .settled { fill: var(--text); stroke: var(--text); }
.strip .faults { stroke: var(--bad); stroke-width: 1.5; }
.strip .hover { stroke: color-mix(in srgb, var(--text) 45%, transparent); }
.strip .other { stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 3 2; }
.strip .scrubber { stroke: var(--accent); stroke-width: 1.5; }
.strip .dot { fill: var(--accent); stroke: var(--background); stroke-width: 2; }
.strip.failed .scrubber { stroke: var(--bad); }
.strip.failed .dot { fill: var(--bad); }
.bubble {
  position: absolute; bottom: calc(100% - var(--strip-top) + 4px); width: 108px; padding: 4px; border-radius: 8px; pointer-events: none;
  background: #1b1b1d; color: #ececed; line-height: 18px; text-align: center; font-size: 11px; box-shadow: 0 2px 10px rgb(0 0 0 / 0.35);
}
.bubble canvas { display: block; margin: 0 auto; border-radius: 5px; background: rgb(255 255 255 / 0.06); }

/* Far away, only the picture and the progress are shown. */
.progress { display: none; flex: none; height: 12px; background: var(--line); }
.progress::before { content: ""; display: block; height: 100%; width: calc(var(--done) * 100%); background: var(--accent); }
.progress.failed::before { background: var(--bad); }
:host([data-far]) > .viewer > :not(.stage, .progress), :host([data-far]) > .viewer .over { display: none !important; }
:host([data-far]) > .viewer > .progress { display: block; }

/* The caption */
.caption { display: flex; flex: none; height: 26px; padding: 0 6px 0 4px; gap: 4px; align-items: center; }
.parts { cursor: pointer; display: flex; flex: 1; flex-wrap: wrap; column-gap: 14px; min-width: 0; height: 26px; overflow: hidden; white-space: nowrap; }
.parts > :empty { display: none; }
.parts > * { color: var(--quiet); max-width: 100%; overflow: hidden; text-overflow: ellipsis; }
.parts > .decoder { max-width: 36ch; }
.parts > .step { color: var(--text); }
.parts > :is(.settled, .files) { height: 26px; padding: 0; font-size: inherit; }
.parts > :is(.settled, .files):not(:empty) { display: block; }
.parts > .truth { padding: 0; text-decoration: underline dotted; text-underline-offset: 3px; }
.truth-curve { flex: none; }
.truth-curve[hidden] { display: none; }
.truth-curve svg { display: block; }
.truth-curve .line { fill: none; stroke: var(--accent); stroke-width: 1.5; }
.failed .parts > .step, .parts > .fault { color: var(--bad); }
.caption button { color: var(--quiet); }
.caption button:hover:not(:disabled), .runs button.compare:hover:not(:disabled) { color: var(--text); background: var(--line); }
.caption .play.playing { color: var(--accent); }
.speed { padding: 0 5px; }

/* The film strip */
.film { position: relative; flex: none; height: 72px; margin: 0 8px; overflow-x: auto; overflow-y: hidden; scrollbar-width: thin; scrollbar-color: var(--line) transparent; }
.reel { position: relative; height: 56px; }
.frame-of-film { position: absolute; top: 0; height: 56px; border-radius: 4px; overflow: hidden; background: var(--line); cursor: pointer; }
.frame-of-film canvas { display: block; width: 100%; height: 100%; object-fit: cover; opacity: 0.72; }
.frame-of-film:is(:hover, [aria-selected="true"], [data-mark="B"]) canvas { opacity: 1; }
.frame-of-film span { position: absolute; left: 5px; bottom: 1px; font-size: 10px; line-height: 15px; font-weight: 600; color: #fff; text-shadow: 0 0 3px #000, 0 0 3px #000; }
.frame-of-film::after { content: attr(data-mark); position: absolute; inset: 0; border-radius: 4px; padding: 1px 5px; font-size: 10px; line-height: 15px; font-weight: 600; color: #fff; text-shadow: 0 0 3px #000, 0 0 3px #000; }
.frame-of-film[aria-selected="true"]::after { box-shadow: inset 0 0 0 2px var(--accent); }
.frame-of-film[data-mark="B"]::after { box-shadow: inset 0 0 0 2px var(--text); }

/* The list of runs */
.runs { display: flex; flex: none; height: 52px; padding: 2px 6px 8px 8px; gap: 6px; align-items: center; }
.row { position: relative; flex: 1; min-width: 0; height: 100%; }
.thumbs { position: relative; display: flex; gap: 6px; overflow-x: auto; scrollbar-width: none; height: 100%; align-items: center; padding: 0 1px; }
.arrow { position: absolute; top: 0; width: 20px; min-width: 20px; height: 100%; border-radius: 6px; color: var(--quiet); background: color-mix(in srgb, var(--background) 88%, transparent); }
.arrow.newer { left: 0; box-shadow: 6px 0 6px color-mix(in srgb, var(--background) 60%, transparent); }
.arrow.older { right: 0; box-shadow: -6px 0 6px color-mix(in srgb, var(--background) 60%, transparent); }
.arrow:hover { color: var(--text); background: color-mix(in srgb, var(--text) 13%, var(--background)); }
.thumb { position: relative; width: 40px; height: 40px; border-radius: 6px; overflow: hidden; background: var(--line); }
.thumb :is(img, canvas) { display: block; width: 40px; height: 40px; object-fit: cover; -webkit-user-drag: none; opacity: 0.72; transition: opacity 0.15s; }
.thumb:hover :is(img, canvas), .thumb[aria-pressed="true"] :is(img, canvas) { opacity: 1; }
.thumb::after {
  content: attr(data-mark); position: absolute; inset: 0; border-radius: 6px; padding: 1px 5px; font-size: 10px; line-height: 15px; font-weight: 600;
  color: #fff; text-shadow: 0 0 3px #000, 0 0 3px #000; box-shadow: inset 0 0 0 1px rgb(255 255 255 / 0.07);
}
.thumb[aria-pressed="true"]::after { box-shadow: inset 0 0 0 2px var(--accent); }
.thumb[data-mark="B"]::after { box-shadow: inset 0 0 0 2px var(--text); }
.thumb::before { content: ""; position: absolute; z-index: 1; left: 0; bottom: 0; height: 3px; width: calc(var(--done) * 100%); background: var(--accent); }
.thumb.interrupted::before, .thumb.failed::before, .thumb.silent::before { left: auto; right: 4px; bottom: 4px; width: 7px; height: 7px; border-radius: 1.5px; background: #e9e9ea; box-shadow: 0 0 3px #000; }
.thumb.failed::before { border-radius: 50%; background: var(--bad); }
.thumb.silent::before { opacity: 0.6; }
.thumb.gone :is(img, canvas) { opacity: 0.3; }
.alone .runs { display: none; }
.compare { width: 30px; height: 30px; color: var(--quiet); }
.compare[aria-pressed="true"] { color: var(--accent); }
.announcement { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

@container viewer (max-width: 460px) {
  .parts { flex-wrap: nowrap; column-gap: 12px; } /* the last parts are hidden; a long decoder name is cut off */
  .parts > * { flex: none; }
  .parts > .decoder, .silent .parts > .time { flex: 0 1 auto; min-width: 0; }
  .parts > :is(.rate, .size, .decode), :is(.settled, .files) span { display: none; }
  .parts > :is(.settled, .files)[data-short]:not(:empty)::after { content: attr(data-short); }
}
@container viewer (max-width: 360px) {
  .parts { column-gap: 8px; }
  .parts:has(.settled:not(:empty)) .sigma { display: none; } /* the strip shows it */
}
@container viewer (max-width: 460px) { .tag span { display: none; } .comparing { gap: 4px; } }
@container viewer (max-width: 330px) {
  .tag { padding: 2px 6px; }
  .tools button { min-width: 22px; }
  .caption { position: relative; }
  .speed { position: absolute; inset-inline-end: 6px; background: var(--background); box-shadow: 0 0 6px 6px var(--background); } /* covers the end of the caption while it is visible */
}
@container viewer (max-width: 290px) { .tools button { min-width: 20px; } }
@media (prefers-reduced-motion: reduce) { .fading, .toast, .thumb :is(img, canvas) { transition: none; } .placeholder { animation: none; } }
@media (prefers-reduced-motion: no-preference) { .behind .board { transition: opacity 0.2s 0.3s; } }
`;
