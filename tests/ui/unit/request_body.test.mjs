import assert from "node:assert/strict";
import { test } from "node:test";

import { messagesOf, requestBody, stopStrings } from "../../../server/ui/chat/request_body.js";

const BLANK = {
  system: "",
  temperature: "",
  top_p: " ",
  max_tokens: "",
  seed: "",
  stop: "",
  logprobs: false,
};

test("a blank field is left to the server", () => {
  assert.deepEqual(requestBody("m", [{ prompt: "Hi", answer: "" }], BLANK), {
    messages: [{ role: "user", content: "Hi" }],
    stream: true,
    stream_options: { include_usage: true },
    model: "m",
  });
});

test("fields that are filled in are sent as the API names them", () => {
  const filled = {
    system: "Be brief.",
    temperature: "0",
    top_p: "0.9",
    max_tokens: "64",
    seed: "-7",
    stop: "END\n\\n\\n",
    logprobs: true,
  };
  const body = requestBody(null, [{ prompt: "Hi", answer: "" }], filled);
  assert.equal("model" in body, false);
  assert.deepEqual(body.messages[0], { role: "system", content: "Be brief." });
  assert.equal(body.temperature, 0);
  assert.equal(body.top_p, 0.9);
  assert.equal(body.max_tokens, 64);
  assert.equal(body.seed, -7);
  assert.deepEqual(body.stop, ["END", "\n\n"]);
  assert.equal(body.logprobs, true);
  assert.equal(body.top_logprobs, 5);
});

test("the whole conversation goes along, roles in turn", () => {
  const exchanges = [
    { prompt: "one", answer: "1" },
    { prompt: "failed", answer: "" },
    { prompt: "two", answer: "2" },
    { prompt: "three", answer: "" },
  ];
  assert.deepEqual(
    messagesOf(exchanges, "  ").map(({ role, content }) => `${role}: ${content}`),
    ["user: one", "assistant: 1", "user: two", "assistant: 2", "user: three"],
  );
});

test("what came of the last answer before is not sent when it is asked for anew", () => {
  const messages = messagesOf([{ prompt: "again", answer: "half" }], "");
  assert.deepEqual(messages, [{ role: "user", content: "again" }]);
});

test("stop strings are one a line, spaces and all", () => {
  assert.deepEqual(stopStrings(" a \r\n\nb"), [" a ", "b"]);
});
