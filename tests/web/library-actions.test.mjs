/** The entries of a picture's menu that change its run. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { libraryActions } from "../../web/library-actions.mjs";

function deskOf(answers, text = null) {
  const asked = [];
  const note = (...call) => asked.push(call);
  return {
    asked,
    act: async (...call) => (note(...call), answers[call[1]]),
    undo: async (token) => (note("undo", token), { done: token === "token", text: "gone" }),
    ask: async (title, before) => (note(title, before), text),
    forget: (id) => note("forget", id),
    refresh: () => note("refresh"),
    place: "the Safelight tab",
  };
}

const runOf = (more = {}) => ({ id: "a", state: "finished", manifest: {}, ...more });
const labels = (entries) => entries.map(({ label }) => label);

test("a star is given and taken away", async () => {
  const desk = deskOf({ star: { done: true, text: "", run: { star: true, note: "" } } });
  const entries = libraryActions(desk);
  const run = runOf();
  assert.equal(await entries({ run })[0].run(), "Starred");
  assert.deepEqual(desk.asked, [["a", "star", { star: true }]]);
  const [after] = entries({ run });
  assert.equal(after.label, "Take the star of this run away");
  assert.equal(await after.run(), "Star taken away");
});

test("the star and the note may come from the list of runs", () => {
  const desk = { ...deskOf({}), marks: () => ({ star: true, note: "x" }) };
  assert.deepEqual(labels(libraryActions(desk)({ run: runOf() })).slice(0, 2), ["Take the star of this run away", "Edit the note on this run"]);
});

test("a note is asked for with the one before; a canceled question changes nothing", async () => {
  const run = runOf({ manifest: { marks: { star: false, note: "old" } } });
  const canceled = deskOf({});
  await libraryActions(canceled)({ run })[1].run();
  assert.deepEqual(canceled.asked, [["Note on this run", "old"]]);
  const desk = deskOf({ note: { done: true, text: "", run: { star: false, note: "new" } } }, "new");
  assert.equal(await libraryActions(desk)({ run })[1].run(), "Note saved");
  assert.equal(run.manifest.marks.note, "new");
});

test("a deleted run leaves the page, and the menu of another one brings it back", async () => {
  const desk = deskOf({ delete: { done: true, text: "Run deleted", undo: "token" } });
  const entries = libraryActions(desk);
  assert.equal(entries({ run: runOf() }).length, 3);
  assert.match(await entries({ run: runOf() })[2].run(), /^Run deleted\. .*in the Safelight tab$/);
  assert.deepEqual(desk.asked.at(-1), ["forget", "a"]);
  const later = entries({ run: runOf({ id: "b" }) });
  assert.equal(labels(later).at(-1), "Bring the deleted run back");
  assert.equal(await later.at(-1).run(), "The run is back");
  assert.deepEqual(desk.asked.at(-1), ["refresh"]);
  assert.equal(entries({ run: runOf() }).length, 3);
});

test("a running run says why it is not deleted; an error is in the server's words", async () => {
  const desk = deskOf({ star: { done: false, text: "no room" } });
  const [star, , remove] = libraryActions(desk)({ run: runOf({ state: "running" }) });
  assert.match(remove.why, /still running/);
  await assert.rejects(star.run(), /no room/);
});
