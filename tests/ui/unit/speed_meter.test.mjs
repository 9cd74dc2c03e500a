import assert from "node:assert/strict";
import { test } from "node:test";

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
