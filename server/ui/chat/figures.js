/** The line of figures under an answer. */

import { count, rate, seconds } from "../shared/format.js";

/**
 * OpenAI's `usage`.
 *
 * @typedef {object} Usage
 * @property {number} prompt_tokens
 * @property {number} completion_tokens
 * @property {{cached_tokens?: number} | null} [prompt_tokens_details]
 */

/**
 * @param {import("./speed_meter.js").SpeedMeter} meter
 * @param {Usage | null} usage null until the server has told it
 * @returns {[name: string, value: string][]}
 */
export function figuresOf(meter, usage) {
  const generated = usage?.completion_tokens ?? meter.numTokens;
  /** @type {[string, string][]} */
  const figures = [["TTFT", seconds(meter.ttftS)]];
  const speed = meter.tokensPerS(generated);
  if (speed !== null) figures.push(["Speed", `${rate(speed)} tokens/s`]);
  figures.push(["Generated", tokens(generated)]);
  if (usage) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    const ofThem = cached > 0 ? `, ${count(cached)} of them cached` : "";
    figures.push(["Prompt", tokens(usage.prompt_tokens) + ofThem]);
  }
  return figures;
}

/** @param {number} n */
function tokens(n) {
  return `${count(n)} ${n === 1 ? "token" : "tokens"}`;
}
