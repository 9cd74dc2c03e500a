import assert from "node:assert/strict";
import { test } from "node:test";

import {
  blockInWords,
  hashInWords,
  textInWords,
} from "../../../server/ui/dashboard/block_words.js";

for (const [value, holder, words] of [
  [0, null, "Block 17: free"],
  [1, null, "Block 17: cached, held by nobody"],
  [9 * 4 + 2, "cmpl-9", "Block 17: used by cmpl-9"],
  [9 * 4 + 3, "cmpl-9", "Block 17: shared by cmpl-9 and others"],
  [9 * 4 + 2, null, "Block 17: used by request 9"],
]) {
  test(words, () => assert.equal(blockInWords(16, value, holder), words));
}

test("a long id is cut in the middle, and without what the server added to it", () => {
  const holder = `chatcmpl-${"7c26a367".repeat(4)}-0123456789abcdef`;
  assert.equal(blockInWords(16, 9 * 4 + 2, holder), "Block 17: used by chatcmpl-7c2…c26a367");
});

test("a long hash is cut, a missing one explained", () => {
  assert.equal(hashInWords("0123456789abcdef0123"), "0123456789abcdef…");
  assert.match(hashInWords(null), /^none: /);
});

test("ends of lines can be seen", () => {
  assert.equal(textInWords("a\n\nb"), "a↵↵b");
});
