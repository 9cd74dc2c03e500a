import assert from "node:assert/strict";
import { test } from "node:test";

import { count, percent, rate, seconds } from "../../../server/ui/shared/format.js";

/**
 * @param {(x: number) => string} format
 * @param {[number, string][]} cases
 */
function check(format, cases) {
  for (const [x, text] of cases) assert.equal(format(x), text, `${format.name}(${x})`);
}

test("what is not known is a dash", () => {
  for (const format of [count, seconds, rate, percent]) {
    for (const nothing of [null, undefined, NaN]) assert.equal(format(nothing), "–");
  }
});

test("counts are grouped by thousands", () => {
  check(count, [
    [0, "0"],
    [999, "999"],
    [12345, "12,345"],
    [1234567, "1,234,567"],
  ]);
});

test("seconds take the unit that keeps three digits, and never round up into an odd one", () => {
  check(seconds, [
    [0, "0 ms"],
    [0.0004, "0.4 ms"],
    [0.00099, "1 ms"],
    [0.003, "3 ms"],
    [0.34, "340 ms"],
    [0.9994, "999 ms"],
    [0.9996, "1.00 s"],
    [1.239, "1.24 s"],
    [9.994, "9.99 s"],
    [9.996, "10.0 s"],
    [12.4, "12.4 s"],
    [59.94, "59.9 s"],
    [59.96, "1 min 0 s"],
    [125, "2 min 5 s"],
    [3599.6, "1 h 0 min"],
    [12000, "3 h 20 min"],
  ]);
});

test("a rate has one decimal below ten", () => {
  check(rate, [
    [0, "0"],
    [0.01, "< 0.1"],
    [3.44, "3.4"],
    [9.94, "9.9"],
    [9.96, "10"],
    [128.4, "128"],
    [12345, "12,345"],
  ]);
});

test("a share has a decimal near nought and near one", () => {
  check(percent, [
    [0, "0 %"],
    [0.0001, "< 0.1 %"],
    [0.034, "3.4 %"],
    [0.03, "3.0 %"],
    [0.0994, "9.9 %"],
    [0.0996, "10 %"],
    [0.87, "87 %"],
    [0.997, "99.7 %"],
    [0.9999, "100 %"],
    [1, "100 %"],
  ]);
});
