import assert from "node:assert/strict";
import { test } from "node:test";

import { figuresOf } from "../../../server/ui/chat/figures.js";
import { SpeedMeter } from "../../../server/ui/chat/speed_meter.js";

test("nothing is known before the first token", () => {
  const meter = new SpeedMeter(10);
  assert.equal(meter.ttftS, null);
  assert.equal(meter.tokensPerS(), null);
  assert.equal(meter.tokensPerS(5), null);
});

test("TTFT runs from the request to the first token", () => {
  const meter = new SpeedMeter(10);
  meter.arrived(10.25, 1);
  meter.arrived(11, 1);
  assert.equal(meter.ttftS, 0.25);
});

test("speed counts the tokens after the first, over the time after the first", () => {
  const meter = new SpeedMeter(10);
  meter.arrived(12, 1);
  assert.equal(meter.tokensPerS(), null);
  meter.arrived(12.5, 1);
  meter.arrived(13, 1);
  assert.equal(meter.tokensPerS(), 2);
  assert.equal(meter.tokensPerS(21), 20, "by the server's own count");
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
