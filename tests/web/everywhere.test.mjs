/** The switch for previews on all samplers, and the welcome after the installation. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Everywhere } from "../../web/everywhere.mjs";
import { welcome } from "../../web/welcome.mjs";

/** The settings of a user, which call `changed` before they store a value, as ComfyUI does. */
function settings(changed = () => {}) {
  const values = {};
  return { values, get: (id) => values[id], set: async (id, value) => (changed(value), void (values[id] = value)) };
}

test("the switch sets the setting and shows what the settings panel sets", async () => {
  const shown = [];
  let everywhere;
  const host = settings((value) => everywhere.changed(value));
  everywhere = new Everywhere(() => host, (on) => shown.push(on));
  assert.equal(everywhere.on, false);
  await everywhere.toggle();
  assert.deepEqual([host.values, everywhere.on, shown], [{ "Safelight.Everywhere": true }, true, [true]]);
  await host.set("Safelight.Everywhere", false);
  assert.deepEqual(shown, [true, false]);
  assert.equal(everywhere.on, false);
});

test("the menu of a picture says which way it switches", async () => {
  const host = settings();
  const everywhere = new Everywhere(() => host, () => {});
  const entry = () => everywhere.action()[0];
  assert.match(entry().label, /^Switch on/);
  assert.equal(await entry().run(), "Safelight previews on all samplers: on");
  assert.match(entry().label, /^Switch off/);
});

test("the switch is off while the settings are not there or damaged", () => {
  assert.equal(new Everywhere(() => undefined, () => {}).on, false);
  const host = settings();
  host.values["Safelight.Everywhere"] = "yes";
  assert.equal(new Everywhere(() => host, () => {}).on, false);
});

test("a user is welcomed once", async () => {
  const [host, shown] = [settings(), []];
  await welcome(host, (message) => shown.push(message));
  await welcome(host, (message) => shown.push(message));
  assert.equal(shown.length, 1);
  assert.match(shown[0].detail, /Safelight previews on all samplers/);
});
