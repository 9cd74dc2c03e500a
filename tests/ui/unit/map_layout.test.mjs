import assert from "node:assert/strict";
import { test } from "node:test";

import {
  cellAt,
  cornerOf,
  layoutOf,
  moveCursor,
} from "../../../server/ui/dashboard/map_layout.js";

test("few cells are no larger than the largest pitch", () => {
  const layout = layoutOf({ numCells: 32, width: 1000 });
  assert.equal(layout.pitch, 28);
  assert.equal(layout.columns, 35);
  assert.equal(layout.rows, 1);
});

test("cells are as large as the wished height allows", () => {
  const layout = layoutOf({ numCells: 2047, width: 1000 });
  const larger = layout.pitch + 1;
  assert.ok(layout.height <= 520);
  assert.ok(Math.ceil(2047 / Math.floor(1000 / larger)) * larger > 520);
});

test("very many cells keep the smallest pitch and grow in height", () => {
  const layout = layoutOf({ numCells: 100000, width: 300 });
  assert.equal(layout.pitch, 2);
  assert.equal(layout.gap, 0);
  assert.ok(layout.height > 520);
  assert.ok(layout.columns * layout.rows >= 100000);
});

test("every cell fits, and the map is never wider than its place", () => {
  for (const numCells of [1, 2, 63, 64, 65, 2047, 4097, 30000]) {
    for (const width of [311, 375, 1001]) {
      for (const ratio of [1, 1.25, 2, 3]) {
        const layout = layoutOf({ numCells, width, ratio });
        assert.ok(layout.columns * layout.rows >= numCells);
        assert.ok(layout.columns * (layout.rows - 1) < numCells);
        assert.ok(layout.width <= width * ratio);
        assert.ok(layout.gap < layout.pitch);
        for (const length of Object.values(layout)) assert.ok(Number.isInteger(length));
      }
    }
  }
});

test("each corner lies in its own cell", () => {
  const layout = layoutOf({ numCells: 100, width: 375 });
  for (let index = 0; index < 100; index += 1) {
    const { x, y } = cornerOf(layout, index);
    assert.equal(cellAt(layout, 100, x, y), index);
    assert.equal(cellAt(layout, 100, x + layout.pitch - 0.5, y + layout.pitch - 0.5), index);
  }
});

test("outside the cells is none", () => {
  const layout = layoutOf({ numCells: 15, width: 280 }); // ten columns
  assert.equal(layout.columns, 10);
  assert.equal(cellAt(layout, 15, -1, 0), null);
  assert.equal(cellAt(layout, 15, 0, -1), null);
  assert.equal(cellAt(layout, 15, layout.width, 0), null);
  assert.equal(cellAt(layout, 15, 5 * 28, 28), null);
  assert.equal(cellAt(layout, 15, 4 * 28, 28), 14);
});

for (const [cursor, key, expected] of [
  [null, "ArrowRight", 0],
  [0, "ArrowRight", 1],
  [0, "ArrowLeft", 0],
  [24, "ArrowRight", 24],
  [3, "ArrowDown", 13],
  [13, "ArrowUp", 3],
  [3, "ArrowUp", 3],
  [13, "ArrowDown", 23],
  [17, "ArrowDown", 17],
  [23, "ArrowDown", 23],
  [2, "PageDown", 22],
  [22, "PageUp", 2],
  [7, "Home", 0],
  [7, "End", 24],
  [7, "a", null],
]) {
  test(`${key} at ${cursor} of 25 cells in ten columns gives ${expected}`, () => {
    assert.equal(moveCursor(10, 25, cursor, key), expected);
  });
}

test("one column moves by cells", () => {
  assert.equal(moveCursor(1, 5, 2, "ArrowDown"), 3);
  assert.equal(moveCursor(1, 5, 4, "ArrowDown"), 4);
});

test("an empty map has no cursor", () => {
  assert.equal(moveCursor(10, 0, null, "ArrowRight"), null);
});
