import { seconds } from "../shared/format.js";

/**
 * How long ago something was, which nobody wants to the hundredth.
 *
 * @param {number} s seconds
 * @returns {string} "4 s", "2 min 5 s"
 */
export function age(s) {
  const whole = Math.max(0, Math.floor(s));
  return whole < 60 ? `${whole} s` : seconds(whole);
}
