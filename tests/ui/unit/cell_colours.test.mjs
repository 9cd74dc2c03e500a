import assert from "node:assert/strict";
import { test } from "node:test";

import { CellColours } from "../../../server/ui/dashboard/cell_colours.js";
import { contrast, ownerColour, packed, unpacked } from "../../../server/ui/dashboard/palette.js";

const theme = {
  surface: [255, 255, 255],
  ink: [20, 20, 20],
  free: [230, 226, 217],
  cached: [201, 173, 106],
  used: [59, 124, 184],
  shared: [107, 42, 99],
  isDark: false,
};
const [FREE, CACHED] = [0, 1];
const used = (owner) => owner * 4 + 2;
const shared = (owner) => owner * 4 + 3;

test("by state each state has its colour, whoever holds the block", () => {
  const colours = new CellColours(theme, "state");
  assert.equal(colours.pixelOf(FREE, 0), packed(theme.free));
  assert.equal(colours.pixelOf(CACHED, 0), packed(theme.cached));
  assert.equal(colours.pixelOf(used(1), 0), packed(theme.used));
  assert.equal(colours.pixelOf(used(2), 500), packed(theme.used));
  assert.equal(colours.pixelOf(shared(2), 0), packed(theme.shared));
  assert.equal(colours.markOf(shared(2)), 0);
});

test("by request each holder has its hue, and shared cells a mark", () => {
  const colours = new CellColours(theme, "request");
  assert.equal(colours.pixelOf(used(5), 0), packed(ownerColour(5, false)));
  assert.notEqual(colours.pixelOf(used(5), 0), colours.pixelOf(used(6), 0));
  assert.notEqual(colours.pixelOf(shared(5), 0), colours.pixelOf(used(5), 0));
  assert.notEqual(colours.markOf(shared(5)), 0);
  assert.equal(colours.markOf(used(5)), 0);
});

test("by age a cell pales from one second to ten minutes, and no further", () => {
  const colours = new CellColours(theme, "age");
  const paleness = [0, 1, 10, 60, 599, 600].map((ageS) =>
    contrast(unpacked(colours.pixelOf(used(1), ageS)), theme.surface),
  );
  assert.equal(colours.pixelOf(used(1), 0), packed(theme.used));
  assert.equal(paleness[0], paleness[1]);
  assert.ok(paleness[1] > paleness[2]);
  assert.ok(paleness[2] > paleness[3]);
  assert.ok(paleness[3] > paleness[4]);
  assert.equal(colours.pixelOf(used(1), 600), colours.pixelOf(used(1), 1e6));
  assert.equal(colours.pixelOf(CACHED, 0), packed(theme.cached));
  assert.equal(colours.pixelOf(FREE, 300), packed(theme.free));
});

test("one request highlighted: its cells stay, all others are dimmed", () => {
  for (const colourBy of ["state", "request", "age"]) {
    const plain = new CellColours(theme, colourBy);
    const lit = new CellColours(theme, colourBy, 5);
    assert.equal(lit.pixelOf(used(5), 3), plain.pixelOf(used(5), 3));
    for (const value of [CACHED, used(6), shared(6)]) {
      const dimmed = contrast(unpacked(lit.pixelOf(value, 3)), theme.surface);
      assert.ok(dimmed < contrast(unpacked(plain.pixelOf(value, 3)), theme.surface));
    }
  }
});

test("a flash begins light and ends as the cell's own colour", () => {
  const colours = new CellColours(theme, "state");
  const pixel = colours.pixelOf(used(1), 0);
  assert.equal(colours.flashed(pixel, 0), pixel);
  assert.ok(contrast(unpacked(colours.flashed(pixel, 1)), theme.surface) < 1.5);
});
