/** Keeps all switches for previews on all samplers in step with the setting of the host. */

import { later, t } from "./language.mjs";

export const EVERYWHERE_SETTING = "Safelight.Everywhere";
export const EVERYWHERE_LABEL = later("Safelight previews on all samplers");

/**
 * @typedef {object} Settings the settings of the host
 * @property {(id: string) => unknown} get
 * @property {(id: string, value: unknown) => Promise<void>} set also saves it
 */

export class Everywhere {
  #settings;
  #show;

  /** @param {() => Settings} settings @param {(on: boolean) => void} show shows the state on all switches */
  constructor(settings, show) {
    this.#settings = settings;
    this.#show = show;
  }

  get on() {
    return this.#settings()?.get(EVERYWHERE_SETTING) === true;
  }

  toggle() {
    return this.#settings().set(EVERYWHERE_SETTING, !this.on);
  }

  /** Shows a changed setting. The host calls this before it stores the value. @param {unknown} value */
  changed(value) {
    this.#show(value === true);
  }

  /** The entry in the menu of a picture. @type {import("./action-menu.mjs").Actions} */
  action = () => [
    {
      label: this.on ? t("Switch off Safelight previews on all samplers") : t("Switch on Safelight previews on all samplers"),
      run: async () => {
        await this.toggle();
        return this.on ? t("Safelight previews on all samplers: on") : t("Safelight previews on all samplers: off");
      },
    },
  ];
}
