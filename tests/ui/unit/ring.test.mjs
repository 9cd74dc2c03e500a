import assert from "node:assert/strict";
import { test } from "node:test";

import { Ring } from "../../../server/ui/dashboard/ring.js";

test("a ring keeps the last ones, oldest first", () => {
  const ring = new Ring(3);
  assert.deepEqual(ring.toArray(), []);
  ring.push(1);
  ring.push(2);
  assert.deepEqual(ring.toArray(), [1, 2]);
  for (const number of [3, 4, 5]) ring.push(number);
  assert.deepEqual(ring.toArray(), [3, 4, 5]);
});
