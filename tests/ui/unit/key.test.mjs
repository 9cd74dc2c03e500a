import assert from "node:assert/strict";
import { test } from "node:test";

import { forgetKey, keepKey, keptKey } from "../../../server/ui/shared/key.js";
import { recall, recallJson, remember } from "../../../server/ui/shared/tab_storage.js";

/**
 * Runs with a browser's storage in place of node's none.
 *
 * @param {object} storage
 * @param {() => void} body
 */
function withStorage(storage, body) {
  Object.defineProperty(globalThis, "sessionStorage", { configurable: true, ...storage });
  try {
    body();
  } finally {
    delete globalThis.sessionStorage;
  }
}

/** @param {number} quota characters that one value may have */
function storageOf(quota) {
  const values = new Map();
  return {
    values,
    getItem: (name) => values.get(name) ?? null,
    removeItem: (name) => values.delete(name),
    setItem: (name, value) => {
      if (value.length > quota) throw new Error("QuotaExceededError");
      values.set(name, value);
    },
  };
}

test("a key is kept until it is forgotten", () => {
  assert.equal(keptKey(), null);
  keepKey("abc");
  assert.equal(keptKey(), "abc");
  keepKey("def");
  assert.equal(keptKey(), "def");
  forgetKey();
  assert.equal(keptKey(), null);
});

test("the key lies in the tab's storage under octavo.key, and nowhere once forgotten", () => {
  const storage = storageOf(100);
  withStorage({ value: storage }, () => {
    keepKey("abc");
    assert.deepEqual([...storage.values], [["octavo.key", "abc"]]);
    assert.equal(keptKey(), "abc");
    forgetKey();
    assert.equal(storage.values.size, 0);
    assert.equal(keptKey(), null);
  });
});

test("where storage is forbidden a value lives in the page", () => {
  const get = () => {
    throw new Error("SecurityError");
  };
  withStorage({ get }, () => {
    remember("name", "value");
    assert.equal(recall("name"), "value");
    remember("name", null);
    assert.equal(recall("name"), null);
  });
});

test("a value over the quota replaces the old one all the same", () => {
  const storage = storageOf(3);
  withStorage({ value: storage }, () => {
    remember("name", "old");
    remember("name", "longer");
    assert.equal(recall("name"), "longer");
    remember("name", "new");
    assert.equal(recall("name"), "new");
    assert.deepEqual([...storage.values], [["name", "new"]]);
    remember("name", null);
    assert.equal(recall("name"), null);
  });
});

test("what was kept as JSON and cannot be read is as good as nothing", () => {
  for (const [text, value] of [
    [null, null],
    ["", null],
    ["{", null],
    ["undefined", null],
    ["null", null],
    ['{"seed": "7"}', { seed: "7" }],
    ["[1]", [1]],
  ]) {
    remember("test.json", text);
    assert.deepEqual(recallJson("test.json"), value);
  }
  remember("test.json", null);
});
