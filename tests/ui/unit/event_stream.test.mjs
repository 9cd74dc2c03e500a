import assert from "node:assert/strict";
import { test } from "node:test";

import { EventParser, dataOf } from "../../../server/ui/shared/event_stream.js";

/** @param {string[]} pieces */
function parsed(pieces) {
  const parser = new EventParser();
  return pieces.flatMap((piece) => parser.push(piece));
}

test("an event is given when its blank line arrives, not before", () => {
  const parser = new EventParser();
  assert.deepEqual(parser.push("data: one\n"), []);
  assert.deepEqual(parser.push("\ndata: two"), ["one"]);
  assert.deepEqual(parser.push("\n\n"), ["two"]);
});

test("LF, CR and CRLF end lines alike", () => {
  for (const end of ["\n", "\r", "\r\n"]) {
    assert.deepEqual(parsed([`data: a${end}${end}data: b${end}${end}`]), ["a", "b"]);
  }
});

test("a CRLF split between its two characters ends one line", () => {
  assert.deepEqual(parsed(["data: a\r", "\ndata: b\r", "\n\r", "\n"]), ["a\nb"]);
});

test("however the stream is cut, the events are the same", () => {
  const stream = ": hello\r\ndata: {\"x\":1}\r\n\r\nevent: e\ndata:two\ndata: lines\n\ndata\n\n";
  const events = ['{"x":1}', "two\nlines", ""];
  assert.deepEqual(parsed([stream]), events);
  for (let cut = 1; cut < stream.length; cut += 1) {
    assert.deepEqual(parsed([stream.slice(0, cut), stream.slice(cut)]), events, `cut at ${cut}`);
  }
  assert.deepEqual(parsed([...stream]), events);
});

test("comments, other fields and stray blank lines give nothing", () => {
  assert.deepEqual(parsed(["\n\n: ping\n\nid: 7\nretry: 10\n\ndatabase: x\n\n"]), []);
});

test("only one space after the colon is the field's", () => {
  assert.deepEqual(parsed(["data:  two spaces: and a colon\n\n"]), [" two spaces: and a colon"]);
});

/** @param {Uint8Array[]} chunks */
function responseOf(chunks) {
  let cancelled = false;
  const body = new ReadableStream({
    pull(controller) {
      const chunk = chunks.shift();
      if (chunk) controller.enqueue(chunk);
      else controller.close();
    },
    cancel() {
      cancelled = true;
    },
  });
  return { response: new Response(body), wasCancelled: () => cancelled };
}

test("a character cut in the middle of its bytes arrives whole", async () => {
  const bytes = new TextEncoder().encode("data: é🙂\n\n");
  const { response } = responseOf([...bytes].map((byte) => Uint8Array.of(byte)));
  const events = [];
  for await (const data of dataOf(response)) events.push(data);
  assert.deepEqual(events, ["é🙂"]);
});

test("leaving the loop cancels the response", async () => {
  const event = new TextEncoder().encode("data: x\n\n");
  const { response, wasCancelled } = responseOf([event, event, event, event]);
  for await (const data of dataOf(response)) {
    assert.equal(data, "x");
    break;
  }
  assert.equal(wasCancelled(), true);
});

test("a response that breaks throws its error", async () => {
  const body = new ReadableStream({
    start(controller) {
      controller.error(new TypeError("network"));
    },
  });
  const events = dataOf(new Response(body));
  await assert.rejects(events.next(), { message: "network" });
});
