/** Lines of the last minutes as SVG paths. */

/**
 * @typedef {object} Frame
 * @property {number} from time at the left edge, in seconds
 * @property {number} to time at the right edge
 * @property {number} width
 * @property {number} height
 * @property {number} max value at the upper edge; 0 is at the lower
 */

/** What was measured less often than this is not joined. */
const JOINED_S = 10;

/**
 * Values are joined unless nothing was measured for long between them; a value alone is a point
 * of no length, which round line ends make visible.
 *
 * @param {number[]} times in seconds
 * @param {(number | null)[]} values
 * @param {Frame} frame
 * @returns {string} for the path's `d`
 */
export function linePath(times, values, frame) {
  return runsOf(times, values, frame)
    .map((points) => `M${points.length === 1 ? `${points[0]}h0` : points.join("L")}`)
    .join("");
}

/**
 * What lies between the line and zero.
 *
 * @param {number[]} times in seconds
 * @param {(number | null)[]} values
 * @param {Frame} frame
 * @returns {string} for the path's `d`
 */
export function areaPath(times, values, frame) {
  return runsOf(times, values, frame)
    .filter((points) => points.length > 1)
    .map((points) => {
      const [left] = points[0].split(" ");
      const [right] = points.at(-1).split(" ");
      return `M${left} ${frame.height}L${points.join("L")}L${right} ${frame.height}Z`;
    })
    .join("");
}

/**
 * The value at the upper edge: a little over the largest, and never so small that noise is tall.
 *
 * @param {(number | null)[][]} lines
 * @param {number} least
 * @returns {number}
 */
export function scaleMax(lines, least) {
  let max = 0;
  for (const values of lines) {
    for (const value of values) if (value > max) max = value;
  }
  return Math.max(least, max * 1.05);
}

/** Points as "x y", grouped into stretches without a long gap. */
function runsOf(times, values, { from, to, width, height, max }) {
  const runs = [];
  let run = [];
  let lastTime = -Infinity;
  for (let i = 0; i < times.length; i += 1) {
    const value = values[i] ?? null;
    if (value === null || times[i] < from) continue;
    if (times[i] - lastTime > JOINED_S) {
      if (run.length > 0) runs.push(run);
      run = [];
    }
    lastTime = times[i];
    const x = ((times[i] - from) / (to - from)) * width;
    const y = height - (Math.min(value, max) / max) * height;
    run.push(`${round(x)} ${round(y)}`);
  }
  if (run.length > 0) runs.push(run);
  return runs;
}

function round(number) {
  return Math.round(number * 10) / 10;
}
