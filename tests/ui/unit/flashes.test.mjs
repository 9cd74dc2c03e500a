import assert from "node:assert/strict";
import { test } from "node:test";

import { Flashes } from "../../../server/ui/dashboard/flashes.js";

test("a glow fades within 600 ms", () => {
  const flashes = new Flashes();
  flashes.add([4], 1000);
  assert.equal(flashes.strength(4, 1000), 1);
  assert.equal(flashes.strength(4, 1300), 0.5);
  assert.equal(flashes.strength(4, 1600), 0);
  assert.equal(flashes.strength(5, 1000), 0);
});

test("a cell that changes again glows anew, and the others go when they are over", () => {
  const flashes = new Flashes();
  flashes.add([1, 2], 0);
  flashes.add([1], 500);
  flashes.expire(700);
  assert.deepEqual([...flashes.cells()], [1]);
  assert.ok(flashes.strength(1, 700) > 0);
  flashes.expire(1100);
  assert.equal(flashes.size, 0);
});

test("very many changes at once do not glow", () => {
  const flashes = new Flashes();
  flashes.add(Array.from({ length: 5001 }, (_, i) => i), 0);
  assert.equal(flashes.size, 0);
});
