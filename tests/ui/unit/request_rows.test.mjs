import assert from "node:assert/strict";
import { test } from "node:test";

import {
  RequestRows,
  lifeS,
  scaleS,
  segmentsOf,
} from "../../../server/ui/dashboard/request_rows.js";

function row(id, values = {}) {
  return {
    id,
    owner: 1,
    stage: "decode",
    prompt_tokens: 100,
    computed_tokens: 100,
    output_tokens: 0,
    max_tokens: 50,
    queue_s: 1,
    prefill_s: 2,
    decode_s: 5,
    ...values,
  };
}

const stages = (rows) => rows.all().map(({ id, stage }) => `${id} ${stage}`);

test("rows keep the order in which they appeared", () => {
  const rows = new RequestRows();
  rows.update([row("a"), row("b")], 0);
  rows.update([row("c"), row("b", { stage: "queue" }), row("a")], 100);
  assert.deepEqual(stages(rows), ["a decode", "b queue", "c decode"]);
});

test("what vanishes stays for five seconds as done, in its place", () => {
  const rows = new RequestRows();
  rows.update([row("a"), row("b")], 0);
  rows.update([row("b")], 1000);
  assert.deepEqual(stages(rows), ["a done", "b decode"]);
  assert.equal(rows.hasDone, true);
  rows.update([row("b")], 5999);
  assert.deepEqual(stages(rows), ["a done", "b decode"]);
  rows.expire(6000);
  assert.deepEqual(stages(rows), ["b decode"]);
  assert.equal(rows.hasDone, false);
});

test("a request that comes back is not done", () => {
  const rows = new RequestRows();
  rows.update([row("a")], 0);
  rows.update([], 100);
  rows.update([row("a")], 200);
  rows.expire(60000);
  assert.deepEqual(stages(rows), ["a decode"]);
});

test("what only lost its place among the rows is not said to have ended", () => {
  const rows = new RequestRows();
  rows.update([row("a"), row("b", { stage: "queue" })], 0, { num_running: 1, num_waiting: 2 });
  rows.update([row("a"), row("c", { stage: "queue" })], 100, { num_running: 1, num_waiting: 2 });
  assert.deepEqual(stages(rows), ["a decode", "c queue"]);
  rows.update([row("d")], 200, { num_running: 2, num_waiting: 0 });
  assert.deepEqual(stages(rows), ["d decode"]);
  rows.update([row("e")], 300, { num_running: 1, num_waiting: 0 });
  assert.deepEqual(stages(rows), ["d done", "e decode"]);
});

/** Requests that end at the rate of a step each, `perStep` at a time, while others run. */
function busyRows(perStep, numRunning, places) {
  const rows = new RequestRows();
  let number = 0;
  let running = [];
  for (let step = 0; step < 40; step += 1) {
    running = running.slice(perStep);
    while (running.length < numRunning) running.push(row(`r${(number += 1)}`));
    rows.update(running, step * 100);
    rows.makeRoom(places);
  }
  return { rows, running };
}

test("what lives has a place before all that ended, at any rate", () => {
  for (const [perStep, numRunning, places] of [
    [1, 4, 12],
    [4, 12, 12],
    [5, 30, 40],
  ]) {
    const { rows, running } = busyRows(perStep, numRunning, places);
    const shown = rows.all().slice(0, places);
    const live = shown.filter(({ stage }) => stage !== "done").map(({ id }) => id);
    assert.deepEqual(live, running.map(({ id }) => id));
    const done = shown.filter(({ stage }) => stage === "done");
    assert.equal(done.length, Math.min(8, places - numRunning));
  }
});

test("what ended last keeps its place longest, and nothing else moves", () => {
  const rows = new RequestRows();
  rows.update([row("a"), row("b"), row("c"), row("d")], 0);
  rows.update([row("b"), row("c"), row("d")], 100);
  rows.update([row("b"), row("d")], 200);
  rows.makeRoom(4);
  assert.deepEqual(stages(rows), ["a done", "b decode", "c done", "d decode"]);
  rows.update([row("b"), row("d"), row("e")], 300);
  rows.makeRoom(4);
  assert.deepEqual(stages(rows), ["b decode", "c done", "d decode", "e decode"]);
  rows.update([row("b"), row("d"), row("e"), row("f"), row("g")], 400);
  rows.makeRoom(4);
  assert.deepEqual(stages(rows), ["b decode", "d decode", "e decode", "f decode", "g decode"]);
});

test("an owner's number leads to its id", () => {
  const rows = new RequestRows();
  rows.update([row("a", { owner: 3 }), row("w", { owner: 0, stage: "queue" })], 0);
  assert.equal(rows.idOf(3), "a");
  assert.equal(rows.idOf(4), null);
  assert.equal(rows.idOf(0), null);
});

test("segments are shares of the scale, filled by the tokens done", () => {
  const prefill = row("a", { stage: "prefill", computed_tokens: 25, decode_s: 0 });
  assert.deepEqual(segmentsOf(prefill, 10), [
    { stage: "queue", length: 0.1, progress: 1 },
    { stage: "prefill", length: 0.2, progress: 0.25 },
    { stage: "decode", length: 0, progress: 1 },
  ]);
  const decode = row("b", { output_tokens: 10 });
  assert.deepEqual(segmentsOf(decode, 8).at(-1), { stage: "decode", length: 0.625, progress: 0.2 });
});

test("progress never leaves the segment", () => {
  const [, , decode] = segmentsOf(row("a", { output_tokens: 99, max_tokens: 50 }), 8);
  assert.equal(decode.progress, 1);
  const [, , unlimited] = segmentsOf(row("a", { max_tokens: 0 }), 8);
  assert.equal(unlimited.progress, 1);
});

test("the longest life gives the scale, a second at least", () => {
  assert.equal(lifeS(row("a")), 8);
  assert.equal(scaleS([row("a"), row("b", { decode_s: 20 })]), 23);
  assert.equal(scaleS([row("a", { queue_s: 0, prefill_s: 0, decode_s: 0.2 })]), 1);
  assert.equal(scaleS([]), 1);
});
