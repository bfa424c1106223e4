/** Runs named timers, at most one per name. */

export class Timers {
  /** @type {Map<string, number>} */
  #ids = new Map();

  /**
   * Calls `then` after `ms` milliseconds, unless a timer of this name is already running.
   *
   * @param {string} name @param {number} ms @param {() => void} then
   */
  start(name, ms, then) {
    if (this.#ids.has(name)) return;
    const fire = () => {
      this.#ids.delete(name);
      then();
    };
    this.#ids.set(name, setTimeout(fire, ms));
  }

  /** @param {string} name */
  cancel(name) {
    clearTimeout(this.#ids.get(name));
    this.#ids.delete(name);
  }
}
