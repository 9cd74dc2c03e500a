/** The chunks of a streamed chat answer, read from the response. */

import { ApiError } from "../shared/api.js";
import { dataOf } from "../shared/event_stream.js";

/**
 * @typedef {object} AnswerChunk
 * @property {string} content
 * @property {string} reasoning
 * @property {import("./token_spans.js").TokenEntry[]} entries the tokens of this chunk's text
 * @property {string | null} finishReason
 * @property {import("./figures.js").Usage | null} usage
 */

/**
 * @param {string} data one event of the stream
 * @returns {AnswerChunk}
 * @throws {ApiError} where the event tells of an error
 */
export function readChunk(data) {
  const { error, choices = [], usage = null } = JSON.parse(data);
  if (error) {
    const message = error.message ?? "The server broke off the answer.";
    throw new ApiError(message, Number(error.code) || 500);
  }
  const { delta = {}, logprobs = null, finish_reason: finishReason = null } = choices[0] ?? {};
  return {
    content: delta.content ?? "",
    reasoning: delta.reasoning ?? delta.reasoning_content ?? "",
    entries: logprobs?.content ?? [],
    finishReason,
    usage,
  };
}

/**
 * @param {Response} response
 * @param {AbortSignal} signal the one that the request was sent with
 * @returns {AsyncGenerator<AnswerChunk, void, void>}
 * @throws {ApiError} where the answer breaks off; the signal's reason where it was stopped
 */
export async function* answerChunks(response, signal) {
  try {
    for await (const data of dataOf(response)) {
      if (data === "[DONE]") return;
      yield readChunk(data);
    }
  } catch (error) {
    signal.throwIfAborted();
    // Every browser has words of its own for a connection that broke.
    if (error instanceof ApiError || !(error instanceof TypeError)) throw error;
  }
  throw new ApiError("The connection broke before the answer was complete.", 0);
}
