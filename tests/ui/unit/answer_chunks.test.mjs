import assert from "node:assert/strict";
import { test } from "node:test";

import { answerChunks, readChunk } from "../../../server/ui/chat/answer_chunks.js";

const signal = new AbortController().signal;

/** @param {...(string | object)} events */
function responseOf(...events) {
  const lines = events.map((one) => (typeof one === "string" ? one : JSON.stringify(one)));
  return new Response(lines.map((data) => `data: ${data}\n\n`).join(""));
}

/** @param {Response} response @param {AbortSignal} [by] */
async function contents(response, by = signal) {
  const found = [];
  for await (const { content } of answerChunks(response, by)) found.push(content);
  return found;
}

/** @param {object} delta */
const chunk = (delta) => ({ choices: [{ delta, logprobs: null, finish_reason: null }] });

test("a chunk's parts are found, and what is absent is empty", () => {
  const entry = { token: "a", logprob: -1, bytes: [97], top_logprobs: [] };
  const choice = { delta: { content: "a" }, logprobs: { content: [entry] }, finish_reason: "stop" };
  assert.deepEqual(readChunk(JSON.stringify({ choices: [choice] })), {
    content: "a",
    reasoning: "",
    entries: [entry],
    finishReason: "stop",
    usage: null,
  });
  const usage = { prompt_tokens: 1, completion_tokens: 2 };
  assert.deepEqual(readChunk(JSON.stringify({ choices: [], usage })), {
    content: "",
    reasoning: "",
    entries: [],
    finishReason: null,
    usage,
  });
});

test("reasoning is read by both of its names, once", () => {
  const read = (delta) => readChunk(JSON.stringify(chunk(delta))).reasoning;
  assert.equal(read({ reasoning: "a", reasoning_content: "a" }), "a");
  assert.equal(read({ reasoning_content: "b" }), "b");
  assert.equal(read({ content: null, reasoning: null }), "");
});

test("chunks come until [DONE]", async () => {
  const response = responseOf(chunk({ content: "a" }), chunk({ content: "b" }), "[DONE]", "never");
  assert.deepEqual(await contents(response), ["a", "b"]);
});

test("an error in the stream is thrown with its message and status", async () => {
  const response = responseOf(chunk({ content: "a" }), {
    error: { message: "The engine died.", code: 500 },
  });
  await assert.rejects(contents(response), {
    name: "ApiError",
    message: "The engine died.",
    status: 500,
  });
});

test("a stream that ends without [DONE] is an error", async () => {
  await assert.rejects(contents(responseOf(chunk({ content: "a" }))), {
    name: "ApiError",
    status: 0,
    message: "The connection broke before the answer was complete.",
  });
});

/** @param {Error} error after the first chunk */
function breakingWith(error) {
  const body = new ReadableStream({
    start(controller) {
      const data = `data: ${JSON.stringify(chunk({ content: "a" }))}\n\n`;
      controller.enqueue(new TextEncoder().encode(data));
    },
    pull(controller) {
      controller.error(error);
    },
  });
  return new Response(body);
}

test("a connection that breaks is an error of the same kind", async () => {
  await assert.rejects(contents(breakingWith(new TypeError("network error"))), {
    name: "ApiError",
    status: 0,
  });
});

test("an answer that was stopped throws the stop's reason", async () => {
  const stopped = AbortSignal.abort();
  await assert.rejects(contents(breakingWith(stopped.reason), stopped), { name: "AbortError" });
});
