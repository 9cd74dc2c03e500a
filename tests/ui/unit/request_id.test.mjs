import assert from "node:assert/strict";
import { test } from "node:test";

import { publicId, shortId } from "../../../server/ui/dashboard/request_id.js";

const ADDED = "-0123456789abcdef";

test("the client's id is without what the server added", () => {
  assert.equal(publicId(`chatcmpl-order-17${ADDED}`), "chatcmpl-order-17");
  assert.equal(publicId(`cmpl-order-17${ADDED}.2#1`), "cmpl-order-17.2#1");
  assert.equal(publicId(`cmpl-a${ADDED}${ADDED}`), `cmpl-a${ADDED}`);
  assert.equal(publicId("cmpl-order-17"), "cmpl-order-17");
});

test("a short id is whole", () => {
  assert.equal(shortId(`chatcmpl-order-17${ADDED}`), "chatcmpl-order-17");
});

test("a long id keeps both its ends, which tell it from others", () => {
  assert.equal(shortId(`chatcmpl-${"a".repeat(16)}00017${ADDED}`), "chatcmpl-aaa…aa00017");
  const ids = Array.from({ length: 50 }, (_, i) => `cmpl-batch-of-november-${1000 + i}${ADDED}`);
  assert.equal(new Set(ids.map(shortId)).size, 50);
  for (const id of ids) assert.equal(shortId(id).length, 20);
});
