/** Runs named timers, at most one per name. */

export class Timers {
  #ids = new Map();

  /** Calls `then` after `ms` milliseconds, unless a timer of this name is already running. */
  start(name, ms, then) {
    if (this.#ids.has(name)) return;
    const fire = () => {
      this.#ids.delete(name);
      then();
    };
    this.#ids.set(name, setTimeout(fire, ms));
  }

  cancel(name) {
    clearTimeout(this.#ids.get(name));
    this.#ids.delete(name);
  }
}
