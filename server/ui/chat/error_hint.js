/** What the reader can do about an answer that failed. */

import { seconds } from "../shared/format.js";

/**
 * @param {import("../shared/api.js").ApiError} error
 * @returns {boolean} whether the conversation has outgrown the model's context
 */
export function isTooLong(error) {
  return error.status === 400 && /context length|longer than|too long/i.test(error.message);
}

/**
 * @param {import("../shared/api.js").ApiError} error
 * @returns {string} a sentence; empty where there is nothing to add to the error's own
 */
export function hintFor(error) {
  if (isTooLong(error)) return "Start a new chat, or ask for fewer tokens.";
  if (error.retryAfterS !== null && [429, 503].includes(error.status)) {
    return `Try again in ${wait(Math.ceil(error.retryAfterS))}.`;
  }
  if (error.status === 401) return "Enter one with the button “API key”.";
  return "";
}

/** @param {number} wholeS */
function wait(wholeS) {
  if (wholeS >= 60) return seconds(wholeS);
  return wholeS <= 1 ? "a second" : `${wholeS} seconds`;
}

/**
 * @param {import("../shared/api.js").ApiError} error
 * @returns {string} the same trouble in the few words that the bar has room for
 */
export function statusFor(error) {
  if (error.status === 0) return "server not reached";
  if (error.status === 401) return "API key needed";
  if (error.status === 429 || error.status === 503) return "server busy";
  return "answer failed";
}
