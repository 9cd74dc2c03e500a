import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { waitS } from "../../../server/ui/dashboard/backoff.js";
import { Feed } from "../../../server/ui/dashboard/feed.js";

test("waiting doubles up to fifteen seconds", () => {
  assert.deepEqual([1, 2, 3, 4, 5, 9].map(waitS), [1, 2, 4, 8, 15, 15]);
});

/** A feed over streams that the test pushes events into, ends and breaks. */
function observed(settings = {}) {
  const seen = { streams: [], messages: [], broken: [] };
  const feed = new Feed({
    open: (signal) => {
      const stream = new Stream(signal);
      seen.streams.push(stream);
      return stream.events();
    },
    onMessage: (message) => seen.messages.push(message),
    onBroken: (broken) => seen.broken.push(broken),
    ...settings,
  });
  return { feed, seen };
}

class Stream {
  #queue = [];
  #wake = () => {};

  constructor(signal) {
    this.signal = signal;
    signal.addEventListener("abort", () => this.break(signal.reason));
  }

  push(...messages) {
    this.#queue.push(...messages.map((message) => ({ data: JSON.stringify(message) })));
    this.#wake();
  }

  end() {
    this.#queue.push({ end: true });
    this.#wake();
  }

  break(error) {
    this.#queue.push({ error });
    this.#wake();
  }

  async *events() {
    for (;;) {
      while (this.#queue.length === 0) {
        await new Promise((resolve) => {
          this.#wake = resolve;
        });
      }
      const { data, error, end } = this.#queue.shift();
      if (error) throw error;
      if (end) return;
      yield data;
    }
  }
}

/** Lets everything that is ready happen. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

function withClock(name, body) {
  test(name, async () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    try {
      await body();
    } finally {
      mock.timers.reset();
    }
  });
}

withClock("messages arrive parsed and in order", async () => {
  const { feed, seen } = observed();
  feed.start();
  feed.start();
  seen.streams[0].push({ type: "hello" }, { type: "frame" });
  await settle();
  assert.deepEqual(seen.messages, [{ type: "hello" }, { type: "frame" }]);
  assert.equal(seen.streams.length, 1);
  feed.stop();
});

withClock("a stream that breaks is opened again, ever later, until one speaks", async () => {
  const { feed, seen } = observed();
  feed.start();
  for (const wait of [1, 2, 4]) {
    seen.streams.at(-1).break(new Error("gone"));
    await settle();
    assert.deepEqual(seen.broken.at(-1), { message: "gone", retryInS: wait });
    const before = seen.streams.length;
    mock.timers.tick(wait * 1000 - 1);
    assert.equal(seen.streams.length, before);
    mock.timers.tick(1);
    assert.equal(seen.streams.length, before + 1);
  }
  seen.streams.at(-1).push({ type: "hello" });
  await settle();
  seen.streams.at(-1).end();
  await settle();
  assert.equal(seen.broken.at(-1).retryInS, 1);
  feed.stop();
});

withClock("the server's own wait counts when it is longer", async () => {
  const { feed, seen } = observed();
  feed.start();
  seen.streams[0].break(Object.assign(new Error("full"), { status: 503, retryAfterS: 30 }));
  await settle();
  assert.equal(seen.broken[0].retryInS, 30);
  feed.stop();
});

withClock("a refused key is not tried again until asked to", async () => {
  const { feed, seen } = observed();
  feed.start();
  seen.streams[0].break(Object.assign(new Error("key"), { status: 401 }));
  await settle();
  assert.deepEqual(seen.broken, [{ message: "key", retryInS: null }]);
  mock.timers.tick(60000);
  assert.equal(seen.streams.length, 1);
  feed.restart();
  assert.equal(seen.streams.length, 2);
  feed.stop();
});

withClock("a message that cannot be handled breaks the stream", async () => {
  const { feed, seen } = observed({
    onMessage: () => {
      throw new RangeError("malformed");
    },
  });
  feed.start();
  seen.streams[0].push({ type: "frame" });
  await settle();
  assert.equal(seen.broken[0].message, "malformed");
  assert.equal(seen.streams[0].signal.aborted, true);
  feed.stop();
});

withClock("silence after the first event counts as broken, before it does not", async () => {
  const { feed, seen } = observed({ silenceMs: 15000 });
  feed.start();
  mock.timers.tick(60000);
  await settle();
  assert.deepEqual(seen.broken, []);
  seen.streams[0].push({ type: "hello" });
  await settle();
  mock.timers.tick(15000);
  await settle();
  assert.equal(seen.broken.length, 1);
  feed.stop();
});

withClock("a stopped feed is silent", async () => {
  const { feed, seen } = observed();
  feed.start();
  feed.stop();
  await settle();
  assert.equal(seen.streams[0].signal.aborted, true);
  assert.deepEqual(seen.broken, []);
  mock.timers.tick(60000);
  assert.equal(seen.streams.length, 1);
});
