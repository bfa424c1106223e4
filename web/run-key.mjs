/** Stores the secret by which ComfyUI's server lists this browser's runs, and sends it with every prompt. */

const STORAGE_NAME = "Safelight.Key";
const BYTES = 32;
export const KEY_HEADER = "Safelight-Key"; // of a request for the list of runs
export const KEY_FIELD = "safelight_key"; // in `extra_data` of a prompt; the server removes it before it queues the prompt

/** The secret of the current user of this browser. It is in no workflow, no picture and no address. */
export class RunKey {
  #storage;
  #user;
  /** @type {Map<string, string>} */ #unsaved = new Map(); // by name, if the browser stores nothing

  /**
   * @param {() => Storage} storage returns the browser's storage; may raise
   * @param {() => string | undefined} user returns the id of the user, if the server has users
   */
  constructor(storage, user) {
    this.#storage = storage;
    this.#user = user;
  }

  get #name() {
    const user = this.#user();
    return user ? `${STORAGE_NAME}.${user}` : STORAGE_NAME;
  }

  /** The key; null if this browser has none yet. */
  saved() {
    return this.#storage().getItem(this.#name) ?? null;
  }

  /** Replaces the key. @param {string} key */
  set(key) {
    this.#unsaved.set(this.#name, key);
    try {
      this.#storage().setItem(this.#name, key);
    } catch {} // then it lasts as long as the page
  }

  /** The key; created when it is first used. Read each time: another tab may have created it in this moment. */
  get() {
    const name = this.#name;
    const unsaved = this.#unsaved.get(name);
    try {
      const storage = this.#storage();
      if (!storage.getItem(name)) storage.setItem(name, unsaved ?? newKey());
      return storage.getItem(name) ?? "";
    } catch {
      const created = unsaved ?? newKey();
      this.#unsaved.set(name, created);
      return created;
    }
  }
}

/**
 * Adds the key to every prompt that the page queues. ComfyUI has no place where an extension could add it.
 *
 * @param {{fetchApi: (route: string, options?: RequestInit) => Promise<Response>}} api of ComfyUI; its `fetchApi` is replaced
 * @param {RunKey} key
 */
export function sendKey(api, key) {
  const { fetchApi } = api;
  api.fetchApi = function (route, options, ...more) {
    const isPrompt = route === "/prompt" && options?.method === "POST";
    return fetchApi.call(this, route, isPrompt ? { ...options, body: withKey(options.body, key.get()) } : options, ...more);
  };
}

/**
 * The body of a request that queues a prompt, with the key; unchanged if it is no such body.
 *
 * @param {RequestInit["body"]} body @param {string} key
 */
function withKey(body, key) {
  try {
    const prompt = JSON.parse(String(body));
    return JSON.stringify({ ...prompt, extra_data: { ...prompt.extra_data, [KEY_FIELD]: key } });
  } catch {
    return body;
  }
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(BYTES)); // `randomUUID` is missing on pages without HTTPS
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
