import assert from "node:assert/strict";
import { test } from "node:test";

import { areaPath, linePath, scaleMax } from "../../../server/ui/dashboard/sparkline.js";

const frame = { from: 0, to: 10, width: 100, height: 40, max: 4 };

test("a line runs from left to right, zero below", () => {
  assert.equal(linePath([0, 5, 10], [0, 2, 4], frame), "M0 40L50 20L100 0");
});

test("a short gap is bridged, a long one interrupts the line; a lone value is a point", () => {
  assert.equal(linePath([0, 1, 2, 10], [4, null, 2, null], frame), "M0 0L20 20");
  const minute = { ...frame, to: 60, width: 600 };
  const path = linePath([0, 10, 21, 40, 41], [4, 2, 0, 4, 4], minute);
  assert.equal(path, "M0 0L100 20M210 40h0M400 0L410 0");
});

test("what is older than the left edge is left out, what is too large is cut", () => {
  assert.equal(linePath([-1, 0, 10], [1, 1, 9], frame), "M0 30L100 0");
});

test("an area closes at zero, and needs two values", () => {
  assert.equal(areaPath([0, 10], [2, 4], frame), "M0 40L0 20L100 0L100 40Z");
  assert.equal(areaPath([0, 1], [2, null], frame), "");
});

test("no values are no path", () => {
  assert.equal(linePath([], [], frame), "");
  assert.equal(linePath([1, 2], [null, null], frame), "");
});

test("the scale reaches over the largest value of all lines, and never shrinks to noise", () => {
  assert.equal(scaleMax([[1, null, 100], [200]], 10), 210);
  assert.equal(scaleMax([[0.001], []], 10), 10);
});
