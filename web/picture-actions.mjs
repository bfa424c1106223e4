/** Lists the viewer's own entries in the menu of a picture. */

/**
 * @param {Record<string, Function>} commands of `viewer.mjs`
 * @param {() => boolean} comparing whether two pictures are compared
 * @returns {import("./action-menu.mjs").Actions}
 */
export function pictureActions(commands, comparing) {
  return ({ addresses }) => {
    const why = addresses.length > 1 ? "Several pictures are shown. Click one first" : undefined;
    return [
      { label: comparing() ? "End the comparison" : "Compare this picture with others", run: () => (comparing() ? commands.compare() : commands.pin()) },
      { label: "Show the figures of this run", run: () => commands.figures() },
      { label: addresses.length > 1 ? "Save these pictures" : "Save this picture", run: () => commands.save() },
      { label: "Copy this picture", why, run: () => commands.copy() },
      { label: "Open this picture in a tab", why, run: () => commands.openTab() },
    ];
  };
}
