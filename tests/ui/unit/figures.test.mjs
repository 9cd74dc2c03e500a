import assert from "node:assert/strict";
import { test } from "node:test";

import { figuresOf } from "../../../server/ui/chat/figures.js";
import { SpeedMeter } from "../../../server/ui/chat/speed_meter.js";

/** A meter that saw this many tokens, one each tenth of a second, from the first tenth on. */
function metered(numTokens) {
  const meter = new SpeedMeter(0);
  for (let i = 1; i <= numTokens; i += 1) meter.arrived(i / 10, 1);
  return meter;
}

test("before the first token only its absence is told", () => {
  assert.deepEqual(figuresOf(metered(0), null), [
    ["TTFT", "–"],
    ["Generated", "0 tokens"],
  ]);
});

test("until the server has counted, the figures are of what was seen", () => {
  assert.deepEqual(figuresOf(metered(1), null), [
    ["TTFT", "100 ms"],
    ["Generated", "1 token"],
  ]);
  assert.deepEqual(figuresOf(metered(11), null), [
    ["TTFT", "100 ms"],
    ["Speed", "10 tokens/s"],
    ["Generated", "11 tokens"],
  ]);
});

test("the server's count goes before what was seen, for the speed too", () => {
  const usage = { prompt_tokens: 7, completion_tokens: 21 };
  assert.deepEqual(figuresOf(metered(11), usage), [
    ["TTFT", "100 ms"],
    ["Speed", "20 tokens/s"],
    ["Generated", "21 tokens"],
    ["Prompt", "7 tokens"],
  ]);
});

test("a prompt of one token, and one that was cached", () => {
  const prompt = (usage) => figuresOf(metered(1), { completion_tokens: 1, ...usage }).at(-1)[1];
  assert.equal(prompt({ prompt_tokens: 1 }), "1 token");
  assert.equal(prompt({ prompt_tokens: 9, prompt_tokens_details: {} }), "9 tokens");
  assert.equal(prompt({ prompt_tokens: 9, prompt_tokens_details: { cached_tokens: 0 } }), "9 tokens");
  assert.equal(
    prompt({ prompt_tokens: 9000, prompt_tokens_details: { cached_tokens: 8192 } }),
    "9,000 tokens, 8,192 of them cached",
  );
});

test("the figures grow from what was seen to what the server counted", () => {
  const meter = new SpeedMeter(0);
  meter.arrived(0.25, 1);
  assert.deepEqual(figuresOf(meter, null), [
    ["TTFT", "250 ms"],
    ["Generated", "1 token"],
  ]);
  meter.arrived(1.25, 1);
  const usage = {
    prompt_tokens: 1234,
    completion_tokens: 31,
    prompt_tokens_details: { cached_tokens: 1200 },
  };
  assert.deepEqual(figuresOf(meter, usage), [
    ["TTFT", "250 ms"],
    ["Speed", "30 tokens/s"],
    ["Generated", "31 tokens"],
    ["Prompt", "1,234 tokens, 1,200 of them cached"],
  ]);
});

test("a prompt of which nothing was cached says nothing of it", () => {
  const meter = new SpeedMeter(0);
  const usage = { prompt_tokens: 5, completion_tokens: 0, prompt_tokens_details: null };
  assert.deepEqual(figuresOf(meter, usage), [
    ["TTFT", "–"],
    ["Generated", "0 tokens"],
    ["Prompt", "5 tokens"],
  ]);
});
