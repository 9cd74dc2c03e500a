import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { ApiError, requestWith } from "../../../server/ui/shared/api.js";
import { forgetKey, keepKey, keptKey } from "../../../server/ui/shared/key.js";

const realFetch = globalThis.fetch;

afterEach(() => {
  globalThis.fetch = realFetch;
  forgetKey();
});

/** A server that accepts one key and notes what it was sent. */
function serverWanting(key) {
  const sent = [];
  globalThis.fetch = async (path, { headers }) => {
    sent.push(headers.Authorization ?? null);
    const isLetIn = headers.Authorization === `Bearer ${key}`;
    return new Response("{}", { status: isLetIn ? 200 : 401 });
  };
  return sent;
}

/** @param {string | object} body @param {number} status @param {object} [headers] */
function serverAnswering(body, status, headers = {}) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  globalThis.fetch = async () => new Response(text, { status, headers });
}

const neverAsked = () => assert.fail("asked for a key");

test("a body goes out as JSON, with the key where one is kept", async () => {
  keepKey("k");
  let seen;
  globalThis.fetch = async (path, options) => {
    seen = { path, ...options };
    return new Response("fine");
  };
  const response = await requestWith(neverAsked)("v1/x", { method: "POST", body: { a: 1 } });
  assert.equal(await response.text(), "fine");
  assert.equal(seen.path, "v1/x");
  assert.equal(seen.method, "POST");
  assert.equal(seen.body, '{"a":1}');
  assert.deepEqual(seen.headers, {
    Authorization: "Bearer k",
    "Content-Type": "application/json",
  });
});

test("a 401 asks for the key until the server accepts one, and keeps that", async () => {
  const sent = serverWanting("right");
  const questions = [];
  const answers = ["wrong", "right"];
  const request = requestWith(async (message) => {
    questions.push(message);
    return answers.shift();
  });
  assert.equal((await request("v1/models")).status, 200);
  assert.deepEqual(sent, [null, "Bearer wrong", "Bearer right"]);
  assert.equal(keptKey(), "right");
  assert.deepEqual(questions, [
    "This server asks for an API key.",
    "The server did not accept this key.",
  ]);
});

test("a dialog that is cancelled ends the request with 401", async () => {
  const sent = serverWanting("right");
  await assert.rejects(requestWith(async () => null)("v1/models"), (error) => {
    assert.ok(error instanceof ApiError);
    assert.equal(error.status, 401);
    return true;
  });
  assert.equal(sent.length, 1);
});

test("a key given to another request meanwhile is tried before asking", async () => {
  const sent = [];
  globalThis.fetch = async (path, { headers }) => {
    sent.push(headers.Authorization ?? null);
    const isFirst = sent.length === 1;
    if (isFirst) keepKey("right");
    return new Response("{}", { status: isFirst ? 401 : 200 });
  };
  assert.equal((await requestWith(neverAsked)("v1/models")).status, 200);
  assert.deepEqual(sent, [null, "Bearer right"]);
});

test("an error's message is the server's, with the field and the time to wait", async () => {
  const body = { error: { message: "Too hot.", param: "temperature" } };
  serverAnswering(body, 429, { "Retry-After": "5" });
  await assert.rejects(requestWith(neverAsked)("x"), {
    name: "ApiError",
    message: "Too hot.",
    status: 429,
    param: "temperature",
    retryAfterS: 5,
  });
});

test("an error without OpenAI's body gets a sentence from its status", async () => {
  serverAnswering("<html>Bad gateway</html>", 502);
  await assert.rejects(requestWith(neverAsked)("x"), {
    message: "The server answered with status 502.",
    status: 502,
    retryAfterS: null,
  });
  serverAnswering("null", 503);
  await assert.rejects(requestWith(neverAsked)("x"), {
    message: "The server cannot take requests at the moment.",
    status: 503,
  });
});

test("a server that is not there is status 0", async () => {
  globalThis.fetch = async () => {
    throw new TypeError("fetch failed");
  };
  await assert.rejects(requestWith(neverAsked)("x"), {
    name: "ApiError",
    message: "The server cannot be reached.",
    status: 0,
  });
});

test("an aborted request throws the abort, not an error of the server", async () => {
  globalThis.fetch = async (path, { signal }) => signal.throwIfAborted();
  const signal = AbortSignal.abort();
  await assert.rejects(requestWith(neverAsked)("x", { signal }), { name: "AbortError" });
});
