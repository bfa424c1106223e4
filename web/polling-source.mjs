/** Reads the runs of `safelight view`, which sends no events, by polling. */

import { isSilent } from "./manifest.mjs";
import { ServerSource } from "./server-source.mjs";

const RUNNING_INTERVAL_MS = 1000;
export const IDLE_INTERVAL_MS = 4000;

export class PollingSource extends ServerSource {
  /** @param {(path: string) => Promise<Response>} request fetches a path relative to the page, never from a cache */
  constructor(request) {
    super(request, "runs", false);
  }

  /** Requests the list of runs. @returns {Promise<number>} milliseconds until the next call */
  async poll() {
    await this.list();
    /** @param {import("./types.mjs").Run} run */
    const isActive = (run) => run.state === "running" && !run.gone && !isSilent(run, Date.now());
    return this.runs().some(isActive) ? RUNNING_INTERVAL_MS : IDLE_INTERVAL_MS;
  }
}
