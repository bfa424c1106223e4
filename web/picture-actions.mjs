/** Lists the viewer's own entries in the menu of a picture. */

import { t } from "./language.mjs";

/**
 * @param {import("./types.mjs").Commands} commands of `viewer.mjs`
 * @param {() => boolean} comparing whether two pictures are compared
 * @returns {import("./action-menu.mjs").Actions}
 */
export function pictureActions(commands, comparing) {
  return ({ addresses }) => {
    const why = addresses.length > 1 ? t("Several pictures are shown. Click one first") : undefined;
    return [
      { label: comparing() ? t("End the comparison") : t("Compare this picture with others"), run: () => void (comparing() ? commands.compare() : commands.pin()) },
      { label: t("Show the figures of this run"), run: () => void commands.figures() },
      { label: addresses.length > 1 ? t("Save these pictures") : t("Save this picture"), run: () => void commands.save() },
      { label: t("Copy this picture"), why, run: () => void commands.copy() },
      { label: t("Open this picture in a tab"), why, run: () => void commands.openTab() },
    ];
  };
}
