/** Which figures the page shows, and out of which columns. */

import { count, percent, rate, seconds } from "../shared/format.js";

/**
 * @typedef {object} Figure
 * @property {string} name for `data-name`
 * @property {string} label
 * @property {string} column of the samples
 * @property {string} [secondColumn] a second line in the same picture
 * @property {string} [secondLabel]
 * @property {(value: number | null) => string} format
 * @property {boolean} [isFilled] for what is measured every second, and so has no gaps
 * @property {number} least what the picture's height stands for at least
 * @property {(limits: Limits) => string} [note] a line under the figure
 */

/**
 * @typedef {object} Limits
 * @property {number} max_num_seqs
 * @property {number} max_queued_requests
 * @property {number} num_blocks
 * @property {number} block_size in tokens
 */

/** @type {Figure[]} */
export const FIGURES = [
  {
    name: "running",
    label: "Running",
    column: "num_running",
    format: count,
    least: 4,
    isFilled: true,
    note: (limits) => `of ${count(limits.max_num_seqs)} at once`,
  },
  {
    name: "waiting",
    label: "Waiting",
    column: "num_waiting",
    format: count,
    least: 4,
    isFilled: true,
    note: (limits) => `of ${count(limits.max_queued_requests)} in the queue`,
  },
  {
    name: "generation",
    label: "Generation",
    column: "generation_tokens_per_s",
    format: rate,
    least: 10,
    isFilled: true,
    note: () => "tokens/s",
  },
  {
    name: "prompt",
    label: "Prompt",
    column: "prompt_tokens_per_s",
    format: rate,
    least: 10,
    isFilled: true,
    note: () => "tokens/s",
  },
  {
    name: "ttft",
    label: "TTFT p50",
    column: "ttft_p50",
    secondColumn: "ttft_p95",
    secondLabel: "p95",
    format: seconds,
    least: 0.01,
  },
  {
    name: "itl",
    label: "ITL p50",
    column: "itl_p50",
    secondColumn: "itl_p95",
    secondLabel: "p95",
    format: seconds,
    least: 0.01,
  },
  {
    name: "hit-rate",
    label: "Prefix hit rate",
    column: "hit_rate",
    format: percent,
    least: 1,
    note: () => "of prompt tokens",
  },
  {
    name: "kv-usage",
    label: "KV usage",
    column: "kv_usage",
    format: percent,
    least: 1,
    isFilled: true,
    note: (limits) => `of ${count(limits.num_blocks)} blocks`,
  },
];
