import assert from "node:assert/strict";
import { test } from "node:test";

import { hintFor, isTooLong, statusFor } from "../../../server/ui/chat/error_hint.js";
import { ApiError } from "../../../server/ui/shared/api.js";

const TOO_LONG = new ApiError(
  "This model's maximum context length is 8192 tokens. However, you requested more.",
  400,
  { param: "prompt" },
);

test("a conversation that is too long is told from other bad requests", () => {
  assert.equal(isTooLong(TOO_LONG), true);
  assert.match(hintFor(TOO_LONG), /new chat/);
  const other = new ApiError("temperature must be in [0, 2], got 9.", 400);
  assert.equal(isTooLong(other), false);
  assert.equal(hintFor(other), "");
});

test("a server that is busy says when to try again", () => {
  const busy = (retryAfterS) => new ApiError("Busy.", 503, { retryAfterS });
  assert.equal(hintFor(busy(0.4)), "Try again in a second.");
  assert.equal(hintFor(busy(5)), "Try again in 5 seconds.");
  assert.equal(hintFor(busy(90)), "Try again in 1 min 30 s.");
  assert.equal(hintFor(busy(null)), "");
  assert.equal(hintFor(new ApiError("Bad.", 400, { retryAfterS: 5 })), "");
});

test("the bar has a few words for each trouble", () => {
  const words = [0, 401, 429, 503, 400, 500].map((status) => statusFor(new ApiError("", status)));
  assert.deepEqual(words, [
    "server not reached",
    "API key needed",
    "server busy",
    "server busy",
    "answer failed",
    "answer failed",
  ]);
});
