import assert from "node:assert/strict";
import { test } from "node:test";

import { applyRuns, ownerOf, stateOf } from "../../../server/ui/dashboard/cells.js";

test("a value holds owner and state", () => {
  assert.equal(stateOf(7 * 4 + 3), 3);
  assert.equal(ownerOf(7 * 4 + 3), 7);
  assert.equal(ownerOf(0xffffffff), 0x3fffffff);
});

test("runs skip, write, and leave the rest as it was", () => {
  const cells = Uint32Array.from([9, 9, 9, 9, 9, 9]);
  assert.deepEqual(applyRuns(cells, [1, 2, 6, 1, 1, 1]), [1, 2, 4]);
  assert.deepEqual([...cells], [9, 6, 6, 9, 1, 9]);
});

test("a cell that is written its own value has not changed", () => {
  const cells = Uint32Array.from([6, 6, 1]);
  assert.deepEqual(applyRuns(cells, [0, 3, 6]), [2]);
});

test("no runs change nothing", () => {
  assert.deepEqual(applyRuns(new Uint32Array(3), []), []);
});

for (const [why, runs] of [
  ["beyond the last cell", [2, 2, 6]],
  ["cut off", [0, 1, 6, 1]],
  ["a negative skip", [1, 1, 6, -1, 1, 6]],
  ["a negative count", [2, -1, 6]],
  ["a fraction", [0, 1.5, 6]],
  ["a value of more than 32 bits", [0, 1, 2 ** 32]],
  ["no array", "0,1,2"],
]) {
  test(`malformed runs are refused and write nothing: ${why}`, () => {
    const cells = Uint32Array.from([5, 5, 5]);
    assert.throws(() => applyRuns(cells, runs), RangeError);
    assert.deepEqual([...cells], [5, 5, 5]);
  });
}
