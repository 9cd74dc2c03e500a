import assert from "node:assert/strict";
import { test } from "node:test";

import { History } from "../../../server/ui/dashboard/history.js";

const COLUMNS = ["at", "ttft_p50", "finished_per_s"];

test("ten minutes are kept", () => {
  const history = new History(COLUMNS, [[100, 0.1, 0]]);
  for (let second = 1; second <= 700; second += 1) history.add([100 + second, null, 1]);
  assert.equal(history.now, 800);
  assert.equal(history.times[0], 200);
  assert.equal(history.column("finished_per_s").length, history.times.length);
});

test("the latest value is the last that was measured, with its age", () => {
  const history = new History(COLUMNS, [
    [10, 0.2, 0],
    [11, 0.4, 0],
    [12, null, 0],
    [13, null, 0],
  ]);
  assert.deepEqual(history.latest("ttft_p50"), { value: 0.4, ageS: 2 });
  assert.deepEqual(history.latest("finished_per_s"), { value: 0, ageS: 0 });
  assert.equal(history.latest("unheard_of"), null);
});

test("a moment is found by its distance from now", () => {
  const history = new History(COLUMNS, [
    [10, 0.2, 0],
    [11, 0.4, 0],
    [14, 0.5, 0],
  ]);
  assert.equal(history.placeAt(0), 2);
  assert.equal(history.placeAt(2.6), 1);
  assert.equal(history.placeAt(10), 0);
  assert.equal(new History(COLUMNS).placeAt(0), null);
});

test("a moment from before the first sample has none", () => {
  const history = new History(COLUMNS, [
    [100, 0.2, 0],
    [101, 0.4, 0],
  ]);
  assert.equal(history.placeAt(300), null);
});

test("rates add up to counts within the span", () => {
  const history = new History(COLUMNS, [
    [10, null, 5],
    [70, null, 2],
    [71, null, null],
    [72, null, 1],
  ]);
  assert.equal(history.total("finished_per_s", 60, 1), 3);
  assert.equal(history.total("finished_per_s", 2, 1), 1);
});

test("a sample that a long step delayed counts for all of its time", () => {
  const history = new History(COLUMNS, [
    [100, null, 0],
    [106, null, 0.5],
    [111, null, 0.2],
  ]);
  assert.equal(history.total("finished_per_s", 60, 1), 4);
});

test("neither the first sample nor a clock that was set makes the time longer", () => {
  const history = new History(COLUMNS, [
    [500, null, 1],
    [501, null, 1],
    [531, null, 1],
    [530, null, 1],
  ]);
  assert.equal(history.total("finished_per_s", 60, 1), 4);
});
