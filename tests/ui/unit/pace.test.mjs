import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { Pace } from "../../../server/ui/dashboard/pace.js";

let nowMs;
let ranAt;
let pace;

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  nowMs = 0;
  ranAt = [];
  pace = new Pace(() => ranAt.push(nowMs), 200, () => nowMs);
});

afterEach(() => mock.timers.reset());

function passMs(ms) {
  nowMs += ms;
  mock.timers.tick(ms);
}

test("the first ask runs at once", () => {
  pace.ask();
  assert.deepEqual(ranAt, [0]);
});

test("asked ten times a second it runs every second time", () => {
  for (let i = 0; i < 6; i += 1) {
    pace.ask();
    passMs(100);
  }
  assert.deepEqual(ranAt, [0, 200, 400]);
});

test("what was asked for too early happens all the same, once", () => {
  pace.ask();
  passMs(50);
  pace.ask();
  pace.ask();
  passMs(249);
  assert.deepEqual(ranAt, [0]);
  passMs(1);
  assert.deepEqual(ranAt, [0, 300]);
  passMs(1000);
  assert.deepEqual(ranAt, [0, 300]);
});
