import assert from "node:assert/strict";
import { test } from "node:test";

import { age } from "../../../server/ui/dashboard/age.js";

test("ages have no fractions", () => {
  assert.equal(age(4.9), "4 s");
  assert.equal(age(-0.1), "0 s");
  assert.equal(age(125.9), "2 min 5 s");
});
