import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { CellColours } from "../../../server/ui/dashboard/cell_colours.js";
import {
  contrast,
  cssOf,
  mix,
  ownerColour,
  packed,
  palestShare,
  parseColour,
  unpacked,
} from "../../../server/ui/dashboard/palette.js";

const sheet = readFileSync(new URL("../../../server/ui/style/base.css", import.meta.url), "utf8");

/** A custom property of the light and of the dark page. */
function tokens(name) {
  const found = [...sheet.matchAll(new RegExp(`--${name}:\\s*(#[0-9a-f]+);`, "g"))];
  assert.equal(found.length, 2, name);
  return found.map((match) => parseColour(match[1]));
}

test("colours are read from CSS", () => {
  assert.deepEqual(parseColour(" #3b7cb8"), [0x3b, 0x7c, 0xb8]);
  assert.deepEqual(parseColour("#fa0"), [0xff, 0xaa, 0]);
  assert.equal(cssOf([1, 2, 3]), "rgb(1 2 3)");
  for (const text of ["", "red", "#12", "#12345", "rgb(1 2 3)"]) {
    assert.throws(() => parseColour(text), RangeError);
  }
});

test("a packed colour is an opaque pixel, red first in memory", () => {
  const bytes = new Uint8Array(Uint32Array.of(packed([1, 2, 3])).buffer);
  assert.deepEqual([...bytes], [1, 2, 3, 255]);
  assert.deepEqual(unpacked(packed([200, 100, 255])), [200, 100, 255]);
});

test("mixing begins and ends at its colours", () => {
  assert.deepEqual(mix([0, 10, 20], [100, 110, 120], 0), [0, 10, 20]);
  assert.deepEqual(mix([0, 10, 20], [100, 110, 120], 1), [100, 110, 120]);
  assert.deepEqual(mix([0, 10, 20], [100, 110, 120], 0.5), [50, 60, 70]);
});

test("contrast is that of WCAG 2", () => {
  assert.equal(contrast([0, 0, 0], [255, 255, 255]), 21);
  assert.equal(contrast([9, 9, 9], [9, 9, 9]), 1);
});

test("the palest colour keeps its contrast, and no more than that", () => {
  const [black, white] = [
    [0, 0, 0],
    [255, 255, 255],
  ];
  const share = palestShare(black, white, 3);
  assert.ok(contrast(mix(black, white, share), white) >= 3);
  assert.ok(contrast(mix(black, white, share + 0.01), white) < 3);
  assert.equal(palestShare(white, white, 3), 0);
});

test("a request's colour stands out from free cells, light and dark", () => {
  tokens("block-free").forEach((free, i) => {
    for (let owner = 1; owner <= 400; owner += 1) {
      const ratio = contrast(ownerColour(owner, i === 1), free);
      assert.ok(ratio >= 3, `owner ${owner}, dark ${i === 1}: ${ratio}`);
    }
  });
});

test("requests that follow each other differ clearly", () => {
  for (const isDark of [false, true]) {
    for (let owner = 1; owner <= 400; owner += 1) {
      for (let next = owner + 1; next <= owner + 4; next += 1) {
        const [one, other] = [ownerColour(owner, isDark), ownerColour(next, isDark)];
        const distance = Math.hypot(...one.map((channel, i) => channel - other[i]));
        assert.ok(distance > 40, `${owner} and ${next}: ${distance}`);
      }
    }
  }
});

test("the states' colours differ in lightness, light and dark", () => {
  const states = ["free", "cached", "used", "shared"].map((state) => tokens(`block-${state}`));
  for (const theme of [0, 1]) {
    for (let one = 0; one < 4; one += 1) {
      for (let other = one + 1; other < 4; other += 1) {
        assert.ok(contrast(states[one][theme], states[other][theme]) >= 1.3);
      }
    }
  }
});

/** What the map makes of the style sheet's colours, of the light and of the dark page. */
function themes() {
  const names = ["surface", "ink", "free", "cached", "used", "shared"];
  const found = names.map((name) => tokens(["surface", "ink"].includes(name) ? name : `block-${name}`));
  return [0, 1].map((i) => ({
    ...Object.fromEntries(names.map((name, place) => [name, found[place][i]])),
    isDark: i === 1,
  }));
}

const [CACHED, USED, SHARED] = [1, 4 + 2, 4 + 3];

test("by age no block ever looks free, nor a cached one held", () => {
  for (const theme of themes()) {
    const colours = new CellColours(theme, "age");
    for (const ageS of [0, 60, 300, 600, 1e6]) {
      const at = (value) => unpacked(colours.pixelOf(value, ageS));
      assert.ok(contrast(at(CACHED), theme.free) >= 1.4, `${ageS} s, dark ${theme.isDark}`);
      for (const held of [USED, SHARED]) {
        assert.ok(contrast(at(held), theme.free) >= 1.9, `${ageS} s, dark ${theme.isDark}`);
        assert.ok(contrast(at(held), at(CACHED)) >= 1.3, `${ageS} s, dark ${theme.isDark}`);
      }
    }
  }
});

test("by request cached blocks do not look free, and the legend has their colour", () => {
  const blocks = readFileSync(
    new URL("../../../server/ui/style/block_map.css", import.meta.url),
    "utf8",
  );
  const [, share] = /color-mix\(in srgb, var\(--block-cached\) (\d+)%/.exec(blocks);
  for (const theme of themes()) {
    const cached = unpacked(new CellColours(theme, "request").pixelOf(CACHED, 0));
    assert.ok(contrast(cached, theme.free) >= 1.3, `dark ${theme.isDark}`);
    assert.deepEqual(cached, mix(theme.cached, theme.free, 1 - share / 100));
  }
});
