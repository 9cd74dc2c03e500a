/** Geometry of the block map: a grid of square cells, in device pixels so that edges are sharp. */

const MAX_PITCH = 28;
const MIN_PITCH = 2;
const MIN_PITCH_WITH_GAP = 4;
const MAX_HEIGHT = 520;

/**
 * @typedef {object} Layout all lengths in device pixels
 * @property {number} pitch from one cell's edge to the next one's
 * @property {number} gap part of the pitch that is left empty
 * @property {number} columns
 * @property {number} rows
 * @property {number} width
 * @property {number} height
 */

/**
 * The largest cells that fit the width and the wished height; the smallest allowed, and as much
 * height as they need, when none does.
 *
 * @param {object} space
 * @param {number} space.numCells
 * @param {number} space.width in CSS pixels
 * @param {number} [space.maxHeight] in CSS pixels
 * @param {number} [space.ratio] device pixels in a CSS pixel
 * @returns {Layout}
 */
export function layoutOf({ numCells, width, maxHeight = MAX_HEIGHT, ratio = 1 }) {
  const deviceWidth = Math.floor(width * ratio);
  const deviceHeight = Math.floor(maxHeight * ratio);
  const least = Math.max(1, Math.round(MIN_PITCH * ratio));
  let pitch = Math.max(least, Math.floor(MAX_PITCH * ratio));
  while (pitch > least && gridHeight(numCells, deviceWidth, pitch) > deviceHeight) pitch -= 1;
  const columns = columnsOf(deviceWidth, pitch);
  const rows = Math.ceil(numCells / columns);
  return {
    pitch,
    gap: gapOf(pitch, ratio),
    columns,
    rows,
    width: columns * pitch,
    height: rows * pitch,
  };
}

function columnsOf(deviceWidth, pitch) {
  return Math.max(1, Math.floor(deviceWidth / pitch));
}

function gridHeight(numCells, deviceWidth, pitch) {
  return Math.ceil(numCells / columnsOf(deviceWidth, pitch)) * pitch;
}

function gapOf(pitch, ratio) {
  if (pitch < MIN_PITCH_WITH_GAP * ratio) return 0;
  return Math.max(1, Math.round((pitch >= 14 * ratio ? 2 : 1) * ratio));
}

/**
 * @param {Layout} layout
 * @param {number} numCells
 * @param {number} x in device pixels from the map's left edge
 * @param {number} y in device pixels from its top edge
 * @returns {number | null} the cell there
 */
export function cellAt(layout, numCells, x, y) {
  const column = Math.floor(x / layout.pitch);
  const row = Math.floor(y / layout.pitch);
  if (column < 0 || column >= layout.columns || row < 0) return null;
  const index = row * layout.columns + column;
  return index < numCells ? index : null;
}

/**
 * @param {Layout} layout
 * @param {number} index of a cell
 * @returns {{x: number, y: number}} its top left corner in device pixels
 */
export function cornerOf(layout, index) {
  return {
    x: (index % layout.columns) * layout.pitch,
    y: Math.floor(index / layout.columns) * layout.pitch,
  };
}

const ROWS_A_PAGE = 10;

/**
 * Where a key moves the cursor.
 *
 * @param {number} columns of the map
 * @param {number} numCells
 * @param {number | null} cursor null when there is none yet: any movement begins at cell 0
 * @param {string} key as in `KeyboardEvent.key`
 * @returns {number | null} the new cell; null when the key means nothing here
 */
export function moveCursor(columns, numCells, cursor, key) {
  if (numCells === 0) return null;
  const last = numCells - 1;
  if (key === "Home") return 0;
  if (key === "End") return last;
  const step = {
    ArrowLeft: -1,
    ArrowRight: 1,
    ArrowUp: -columns,
    ArrowDown: columns,
    PageUp: -columns * ROWS_A_PAGE,
    PageDown: columns * ROWS_A_PAGE,
  }[key];
  if (step === undefined) return null;
  if (cursor === null) return 0;
  const target = cursor + step;
  const isAcrossRows = Math.abs(step) > 1;
  if (isAcrossRows && target < 0) return cursor % columns;
  if (isAcrossRows && target > last) return lastInColumn(columns, last, cursor % columns);
  return Math.min(last, Math.max(0, target));
}

function lastInColumn(columns, last, column) {
  const inLastRow = last - (last % columns) + column;
  return inLastRow <= last ? inLastRow : Math.max(column, inLastRow - columns);
}
