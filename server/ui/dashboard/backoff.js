/** How long to wait before trying again. */

const LONGEST_S = 15;

/**
 * @param {number} failures in a row so far, from 1
 * @returns {number} seconds: 1, 2, 4, 8, 15, 15 …
 */
export function waitS(failures) {
  return Math.min(LONGEST_S, 2 ** (failures - 1));
}
