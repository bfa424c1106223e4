/** Shows the viewer in the language of ComfyUI. */

import { bestLanguage, setLanguage } from "./language.mjs";

const SETTING = "Comfy.Locale";
const WAIT_MS = 2000; // the texts come from the server that sent this module; a page must not hang without them

/**
 * Sets the language of ComfyUI's settings, now and whenever the user changes it.
 *
 * @param {ComfyUI.LiveSettings} settings of ComfyUI
 * @param {(path: string) => Promise<Response>} request fetches a path of the server
 * @param {() => void} changed called when the user has changed the language
 */
export async function followLanguage(settings, request, changed) {
  settings.addEventListener(`${SETTING}.change`, async ({ detail }) => {
    await use(detail.value, request);
    changed();
  });
  await use(settings.getSettingValue(SETTING), request);
}

/**
 * Loads the texts of a language and sets it; English where that fails.
 *
 * @param {unknown} name of the language @param {(path: string) => Promise<Response>} request
 */
async function use(name, request) {
  let table = null;
  if (typeof name === "string" && bestLanguage([name], [name]) !== "en") {
    const loading = request(`/safelight/texts/${encodeURIComponent(name)}`).then((reply) => (reply.ok ? reply.json() : null));
    table = await Promise.race([loading, new Promise((resolve) => setTimeout(resolve, WAIT_MS))]).catch(() => null);
  }
  if (table?.texts) setLanguage(table.language, table.texts, table.patterns);
  else setLanguage("en", {});
}
