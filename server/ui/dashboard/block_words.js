/** What a block holds, in words. */

import { STATES, ownerOf, stateOf } from "./cells.js";
import { shortId } from "./request_id.js";

const HASH_SHOWN = 16;

/**
 * @param {number} index of a cell
 * @param {number} value of the cell
 * @param {string | null} holder id of the request whose number the cell has
 * @returns {string} "Block 17: used by chatcmpl-1"
 */
export function blockInWords(index, value, holder) {
  const state = STATES[stateOf(value)];
  const block = `Block ${index + 1}`;
  if (state === "cached") return `${block}: cached, held by nobody`;
  if (ownerOf(value) === 0) return `${block}: ${state}`;
  const by = holder === null ? `request ${ownerOf(value)}` : shortId(holder);
  return state === "shared" ? `${block}: shared by ${by} and others` : `${block}: used by ${by}`;
}

/**
 * @param {string} text of the block's tokens
 * @returns {string} on one line, with the ends of lines to be seen
 */
export function textInWords(text) {
  return text.replaceAll("\n", "↵");
}

/**
 * @param {string | null} hash in hexadecimal digits
 * @returns {string} its beginning, or why there is none
 */
export function hashInWords(hash) {
  if (hash === null) return "none: the block is not full, or its content is not kept";
  return hash.length > HASH_SHOWN ? `${hash.slice(0, HASH_SHOWN)}…` : hash;
}
