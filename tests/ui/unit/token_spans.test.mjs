import assert from "node:assert/strict";
import { test } from "node:test";

import { tokenSpans } from "../../../server/ui/chat/token_spans.js";

const encoder = new TextEncoder();

/** @param {string | number[]} text or bytes */
function entry(text) {
  const bytes = typeof text === "string" ? [...encoder.encode(text)] : text;
  return { token: typeof text === "string" ? text : "\ufffd", logprob: -0.5, bytes };
}

/** @param {import("../../../server/ui/chat/token_spans.js").TokenSpan[]} spans */
const texts = (spans) => spans.map(({ text }) => text);

test("each token has a span of its own", () => {
  const entries = [entry("The"), entry(" sky"), entry("\n")];
  const spans = tokenSpans("The sky\n", entries);
  assert.deepEqual(texts(spans), ["The", " sky", "\n"]);
  assert.deepEqual(
    spans.map((span) => span.entries),
    entries.map((one) => [one]),
  );
});

test("tokens that make up one character share a span", () => {
  const parts = [[0xf0, 0x9f], [0x8c], [0x9f]].map(entry);
  const spans = tokenSpans("a🌟b", [entry("a"), ...parts, entry("b")]);
  assert.deepEqual(texts(spans), ["a", "🌟", "b"]);
  assert.deepEqual(spans[1].entries, parts);
});

test("a token may end one character and begin the next", () => {
  const entries = [[0xc3], [0xa9, 0xc3], [0xa8]].map(entry);
  assert.deepEqual(tokenSpans("éè", entries), [{ text: "éè", entries }]);
});

test("a character that was never finished is shown as the server shows it", () => {
  const cut = [[0xf0, 0x9f], [0x8c]].map(entry);
  const spans = tokenSpans("a\ufffd", [entry("a"), ...cut]);
  assert.deepEqual(texts(spans), ["a", "\ufffd"]);
  assert.deepEqual(spans[1].entries, cut);
});

test("text that its tokens do not spell is one span with all of them", () => {
  const entries = [entry(" The"), entry(" sky")];
  assert.deepEqual(tokenSpans("The sky", entries), [{ text: "The sky", entries }]);
  assert.deepEqual(tokenSpans(" The sky is", entries), [{ text: " The sky is", entries }]);
});

test("an end mark or stop string that the server held back has no span", () => {
  const entries = [entry("Paris"), entry("."), entry("<|im_end|>")];
  assert.deepEqual(texts(tokenSpans("Paris.", entries)), ["Paris", "."]);
  assert.deepEqual(tokenSpans("", [entry("<|im_end|>")]), []);
});

test("what ends the reasoning has no part in the first visible token", () => {
  const before = ["\n", "</think>", "\n\n"].map(entry);
  const hello = entry("Hello");
  assert.deepEqual(tokenSpans("Hello", [...before, hello]), [{ text: "Hello", entries: [hello] }]);
  const spans = tokenSpans("Hello there", [...before, hello, entry(" there"), entry("<|im_end|>")]);
  assert.deepEqual(texts(spans), ["Hello", " there"]);
  assert.deepEqual(spans[0].entries, [hello]);
  const joined = entry("\n\nHello");
  assert.deepEqual(tokenSpans("Hello", [...before, joined]), [{ text: "Hello", entries: [joined] }]);
});

test("reasoning that reads like the answer is not taken for it", () => {
  const [thought, end, said] = [entry("Yes"), entry("</think>"), entry("Yes")];
  const [span] = tokenSpans("Yes", [thought, end, said]);
  assert.equal(span.entries[0], said);
});

test("a stop string that begins inside a token leaves one span", () => {
  const entries = [entry("a"), entry("b##")];
  assert.deepEqual(tokenSpans("ab", entries), [{ text: "ab", entries }]);
});

test("text without probabilities is a span without tokens", () => {
  assert.deepEqual(tokenSpans("hello", []), [{ text: "hello", entries: [] }]);
});

test("a token without bytes is taken by its text, and one without text joins the next", () => {
  const silent = { token: "", logprob: 0, bytes: [] };
  const spans = tokenSpans("ab", [{ token: "a", logprob: 0, bytes: null }, silent, entry("b")]);
  assert.deepEqual(texts(spans), ["a", "b"]);
  assert.equal(spans[1].entries.length, 2);
});

test("a byte order mark inside the text is kept", () => {
  assert.deepEqual(texts(tokenSpans("\ufeffa", [entry("\ufeff"), entry("a")])), ["\ufeff", "a"]);
});
