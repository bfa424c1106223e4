/** Defines the colors, the buttons and the icons that the viewer and the library share. */

export const BASE_STYLE = `
:host {
  --background: var(--safelight-ground, var(--comfy-input-bg, #17181a));
  --text: var(--safelight-text, var(--input-text, #dcddde));
  /* Some palettes have a descrip-text or an error-text with too little contrast, so both are mixed with the text color. */
  --quiet: var(--safelight-quiet, color-mix(in srgb, var(--descrip-text, #75787d) 30%, var(--text)));
  --accent: var(--safelight-lamp, #ff8a3d);
  --accent-on-dark: #ff8a3d; /* on the overlay, which is dark in every palette */
  --bad: color-mix(in srgb, var(--error-text, #ff5050) 75%, var(--text));
  --line: color-mix(in srgb, var(--text) 13%, transparent);
  --overlay: rgb(18 18 20 / 0.72);
}
@supports (color: oklch(from red l c h)) { /* a darker accent on a light background */
  :host { --accent: var(--safelight-lamp, oklch(from var(--background) clamp(0.52, 0.745 + (0.6 - l) * 9, 0.745) 0.165 52)); }
}
* { box-sizing: border-box; margin: 0; padding: 0; }
[hidden] { display: none !important; }
button {
  all: unset; box-sizing: border-box; display: grid; place-content: center; flex: none; cursor: pointer;
  min-width: 24px; height: 24px; border-radius: 6px; font-size: 11px; text-align: center; color: inherit;
}
button:disabled { opacity: 0.3; cursor: default; }
:focus-visible { outline: 1.5px solid color-mix(in srgb, var(--accent) 80%, transparent); outline-offset: -1.5px; }
.icon { width: 16px; height: 16px; fill: none; stroke: currentColor; stroke-width: 1.4; stroke-linejoin: round; stroke-linecap: round; }
`;
