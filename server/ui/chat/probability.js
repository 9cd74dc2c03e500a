/** How sure the model was of a token, as the page shows it. */

import { bytesOf, decoded } from "./token_spans.js";

/** @typedef {import("./token_spans.js").TokenEntry} TokenEntry */

/** Lower bounds of the shades 0 (none), 1 and 2; below the last is 3. */
export const SHADE_BOUNDS = [0.9, 0.6, 0.3];

/**
 * @param {TokenEntry[]} entries tokens that followed each other
 * @returns {number} the probability of them all, 0 to 1
 */
export function probabilityOf(entries) {
  return Math.exp(entries.reduce((sum, { logprob }) => sum + (logprob ?? -Infinity), 0));
}

/**
 * @param {number} probability
 * @returns {0 | 1 | 2 | 3} 3 is the strongest
 */
export function shadeOf(probability) {
  const shade = SHADE_BOUNDS.findIndex((bound) => probability >= bound);
  return /** @type {0 | 1 | 2 | 3} */ (shade < 0 ? 3 : shade);
}

/**
 * @typedef {{text: string, probability: number, isChosen: boolean}} Alternative
 */

/**
 * What could have stood in a token's place, likeliest first, the chosen one among them.
 *
 * @param {TokenEntry} entry
 * @returns {Alternative[]}
 */
export function alternativesTo(entry) {
  const top = entry.top_logprobs ?? [];
  const isSame = (other) =>
    other.token === entry.token && String(other.bytes) === String(entry.bytes);
  return (top.some(isSame) ? top : [...top, entry])
    .map((other) => ({
      text: labelOf(other),
      probability: probabilityOf([other]),
      isChosen: isSame(other),
    }))
    .sort((one, other) => other.probability - one.probability);
}

/**
 * @param {TokenEntry} entry
 * @returns {string} its text, or its bytes in hexadecimal where they are no whole character
 */
export function labelOf(entry) {
  const text = decoded([entry]);
  if (text !== null) return visible(text);
  return [...bytesOf([entry])].map((byte) => `0x${byte.toString(16).padStart(2, "0")}`).join(" ");
}

const SIGNS = { " ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥", "\u00a0": "⍽" };

/**
 * @param {string} text
 * @returns {string} the same with signs for the white space
 */
export function visible(text) {
  return text.replace(/[ \n\r\t\u00a0]/g, (space) => SIGNS[space]);
}
