/** Shows the newest picture of the newest run of a node, one at a time. */

import { newestStep, pictureAddress } from "./store.mjs";

/**
 * The next picture is asked for when the last one is on the screen: on a slow link steps are left out, none is late.
 * Whatever arrives after a newer run has begun is dropped.
 */
export class Follower {
  #store;
  #stage;
  #load;
  #places = [];
  #run = null;
  #shown = null;
  #busy = false;
  #again = false;
  #visible = true;

  /**
   * @param {import("./store.mjs").Store} store
   * @param {{run: Function, show: Function}} stage
   * @param {(path: string) => Promise<unknown>} load a picture, ready to be shown without delay
   */
  constructor(store, stage, load) {
    this.#store = store;
    this.#stage = stage;
    this.#load = load;
  }

  /** Looks for news of these places. @param {import("./store.mjs").Place[]} places */
  look(places) {
    this.#places = places;
    // A workflow that is saved under another name has a new id; its node shows its own last run until there is one.
    this.#run = this.#store.newest(places) ?? this.#run;
    if (!this.#run) return;
    this.#stage.run(this.#run);
    this.#pull();
  }

  /** Nothing is fetched for a node that nobody sees. */
  set visible(visible) {
    if (visible === this.#visible) return;
    this.#visible = visible;
    if (visible) this.look(this.#places);
  }

  async #pull() {
    this.#again = true;
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#again && this.#visible) {
        this.#again = false;
        await this.#step(this.#run);
      }
    } finally {
      this.#busy = false;
    }
  }

  async #step(run) {
    const manifest = await this.#store.manifest(run.id);
    if (run !== this.#run || !manifest) return;
    this.#stage.run(run);
    const step = newestStep(manifest);
    if (!step) return;
    const address = pictureAddress(run, step);
    if (address === this.#shown) return;
    const picture = await this.#load(address).catch(() => null);
    if (run !== this.#run || !picture) return;
    this.#shown = address;
    this.#stage.show(picture, run, step);
  }
}
