/** Cells of the block map: one number a block, `owner * 4 + state`. */

/** Names of the states, by their number. */
export const STATES = ["free", "cached", "used", "shared"];

/**
 * @param {number} value of a cell
 * @returns {number} 0 free, 1 cached, 2 used by one holder, 3 shared by several
 */
export function stateOf(value) {
  return value & 3;
}

/**
 * @param {number} value of a cell
 * @returns {number} the number of the request that holds the block, 0 when nobody does
 */
export function ownerOf(value) {
  return value >>> 2;
}

/**
 * Write a frame's runs into the cells. Nothing is written when a run is malformed.
 *
 * @param {Uint32Array} cells cell i is block i + 1
 * @param {number[]} runs `skip, count, value` again and again, from cell 0
 * @returns {number[]} indices of the cells whose value is another one now, rising
 * @throws {RangeError} when the runs are cut off, negative, fractional or leave the map
 */
export function applyRuns(cells, runs) {
  checkRuns(cells.length, runs);
  const changed = [];
  let index = 0;
  for (let at = 0; at < runs.length; at += 3) {
    index += runs[at];
    const end = index + runs[at + 1];
    const value = runs[at + 2];
    for (; index < end; index += 1) {
      if (cells[index] !== value) {
        cells[index] = value;
        changed.push(index);
      }
    }
  }
  return changed;
}

function checkRuns(numCells, runs) {
  if (!Array.isArray(runs) || runs.length % 3 !== 0) {
    throw new RangeError("Runs must be triples of skip, count and value.");
  }
  for (const number of runs) {
    if (!Number.isInteger(number) || number < 0 || number > 0xffffffff) {
      throw new RangeError(`Runs must be whole numbers from 0 to 2^32 - 1, not ${number}.`);
    }
  }
  let end = 0;
  for (let at = 0; at < runs.length; at += 3) end += runs[at] + runs[at + 1];
  if (end > numCells) {
    throw new RangeError(`Runs end at cell ${end}, but the map has ${numCells}.`);
  }
}
