/** How many blocks are in each state, and what the colours mean. */

import { count } from "../shared/format.js";
import { STATES } from "./cells.js";
import { write } from "./write.js";

const MEANINGS = {
  state:
    "Cached: nobody holds it, but a prompt that begins alike takes it up again. " +
    "Shared: several requests hold it.",
  request: "A hue for each request. A light mark in a cell: other requests hold it too.",
  age:
    "Strong: has just changed, or the page was just opened. " +
    "Pale: has stayed the same, for up to ten minutes.",
};

/**
 * @param {HTMLElement} legend
 * @param {Record<"free" | "cached" | "used" | "shared", number>} counts blocks; the shared ones
 *   are among the used ones
 */
export function showCounts(legend, counts) {
  for (const state of STATES) {
    write(legend.querySelector(`[data-state=${state}] .number`), count(counts[state]));
  }
}

/**
 * @param {HTMLElement} panel whose radio buttons choose the colours
 * @param {(colourBy: "state" | "request" | "age") => void} chosen
 */
export function wireColours(panel, chosen) {
  const meaning = panel.querySelector("#colour-meaning");
  const choose = () => {
    const { value } = panel.querySelector("input[name=colour]:checked");
    panel.dataset.colourBy = value;
    write(meaning, MEANINGS[value]);
    chosen(value);
  };
  for (const radio of panel.querySelectorAll("input[name=colour]")) {
    radio.addEventListener("change", choose);
  }
  // A browser that goes back to the page restores the choice, without an event.
  choose();
}
