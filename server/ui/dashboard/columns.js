/** Rows come as arrays whose columns were named once, in the stream's first event. */

/**
 * @param {string[]} columns
 * @param {unknown[]} row
 * @returns {Record<string, any>} the row's values by their columns' names
 */
export function named(columns, row) {
  return Object.fromEntries(columns.map((column, i) => [column, row[i] ?? null]));
}
