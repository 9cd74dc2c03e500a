/** The map's colours, as the style sheet has them at the moment. */

import { parseColour } from "./palette.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

/** @returns {import("./cell_colours.js").Theme} */
export function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => parseColour(style.getPropertyValue(name));
  return {
    surface: colour("--surface"),
    ink: colour("--ink"),
    free: colour("--block-free"),
    cached: colour("--block-cached"),
    used: colour("--block-used"),
    shared: colour("--block-shared"),
    isDark: dark.matches,
  };
}

/** @param {() => void} changed called when the page turns dark or light */
export function onThemeChange(changed) {
  dark.addEventListener("change", changed);
}
