import assert from "node:assert/strict";
import { test } from "node:test";

import {
  alternativesTo,
  labelOf,
  probabilityOf,
  shadeOf,
  visible,
} from "../../../server/ui/chat/probability.js";

/** @param {string} token @param {number} probability @param {object[]} [top] */
function entry(token, probability, top) {
  const bytes = [...new TextEncoder().encode(token)];
  return { token, logprob: Math.log(probability), bytes, top_logprobs: top };
}

test("the probability of several tokens is their product", () => {
  assert.equal(probabilityOf([entry("a", 0.5), entry("b", 0.25)]).toFixed(6), "0.125000");
  assert.equal(probabilityOf([{ token: "a", logprob: null, bytes: null }]), 0);
});

test("shades deepen as probability falls", () => {
  const shades = [1, 0.9, 0.8999, 0.6, 0.5999, 0.3, 0.2999, 0].map(shadeOf);
  assert.deepEqual(shades, [0, 0, 1, 1, 2, 2, 3, 3]);
});

test("alternatives come likeliest first and mark the chosen one", () => {
  const chosen = entry(" blue", 0.3, [entry(" grey", 0.5), entry(" blue", 0.3)]);
  assert.deepEqual(
    alternativesTo(chosen).map(({ text, isChosen }) => [text, isChosen]),
    [
      ["␣grey", false],
      ["␣blue", true],
    ],
  );
});

test("a chosen token outside the top is listed too", () => {
  const chosen = entry("z", 0.01, [entry("a", 0.5), entry("b", 0.3)]);
  const texts = alternativesTo(chosen).map(({ text }) => text);
  assert.deepEqual(texts, ["a", "b", "z"]);
  assert.deepEqual(alternativesTo(entry("z", 1)).length, 1);
});

test("tokens of different bytes are different, whatever they look like", () => {
  const half = (byte) => ({ token: "\ufffd", logprob: -1, bytes: [byte] });
  const chosen = { ...half(0x8c), top_logprobs: [half(0x8d), half(0x8c)] };
  assert.deepEqual(
    alternativesTo(chosen).map(({ text, isChosen }) => [text, isChosen]),
    [
      ["0x8d", false],
      ["0x8c", true],
    ],
  );
});

test("white space has signs, and half characters their bytes", () => {
  assert.equal(visible(" a\n\tb\u00a0"), "␣a↵⇥b⍽");
  assert.equal(labelOf(entry(" a", 1)), "␣a");
  assert.equal(labelOf({ token: "\ufffd", logprob: 0, bytes: [0xf0, 0x0f] }), "0xf0 0x0f");
});
