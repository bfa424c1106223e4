/** What is to happen after a while, each under a name, once at a time. */

export class Timers {
  #ids = new Map();

  /** Calls `then` in so many milliseconds, unless something of this name is waited for already. */
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
