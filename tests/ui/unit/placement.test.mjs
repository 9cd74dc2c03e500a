import assert from "node:assert/strict";
import { test } from "node:test";

import { placed } from "../../../server/ui/chat/placement.js";

const SIZE = { width: 200, height: 100 };
const VIEWPORT = { width: 1000, height: 800 };
const GAP = 8;

/** @param {number} left @param {number} top */
const tokenAt = (left, top) => ({ left, top, right: left + 40, bottom: top + 20 });

test("a popover stands centred above its anchor", () => {
  assert.deepEqual(placed(tokenAt(500, 400), SIZE, VIEWPORT, GAP), { left: 420, top: 292 });
});

test("where there is no room above it goes below", () => {
  assert.deepEqual(placed(tokenAt(500, 60), SIZE, VIEWPORT, GAP), { left: 420, top: 88 });
});

test("it never leaves the viewport, wherever the anchor is", () => {
  for (let left = -100; left <= 1100; left += 50) {
    for (let top = -100; top <= 900; top += 50) {
      const at = placed(tokenAt(left, top), SIZE, VIEWPORT, GAP);
      assert.ok(at.left >= GAP && at.left + SIZE.width <= VIEWPORT.width - GAP, `left ${left}`);
      assert.ok(at.top >= GAP && at.top + SIZE.height <= VIEWPORT.height - GAP, `top ${top}`);
    }
  }
});

test("a popover larger than the viewport shows its beginning", () => {
  assert.deepEqual(placed(tokenAt(50, 50), SIZE, { width: 150, height: 90 }, GAP), {
    left: GAP,
    top: GAP,
  });
});
