import assert from "node:assert/strict";
import { test } from "node:test";

import { named } from "../../../server/ui/dashboard/columns.js";

test("a row is named by its columns, and what is missing is null", () => {
  assert.deepEqual(named(["a", "b", "c"], [1, 0]), { a: 1, b: 0, c: null });
});
