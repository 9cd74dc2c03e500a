/** Values that live as long as the tab. */

/** Holds them for a page whose browser forbids storage. @type {Map<string, string>} */
const held = new Map();

/** @returns {Storage | null} */
function storage() {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    // The browser blocks storage for this site.
    return null;
  }
}

/**
 * @param {string} name
 * @returns {string | null}
 */
export function recall(name) {
  return held.get(name) ?? storage()?.getItem(name) ?? null;
}

/**
 * @param {string} name of a value that was kept as JSON
 * @returns {unknown} null where nothing was kept, or nothing that can be read
 */
export function recallJson(name) {
  try {
    return JSON.parse(recall(name) ?? "null");
  } catch {
    return null;
  }
}

/**
 * @param {string} name
 * @param {string | null} value null forgets it
 */
export function remember(name, value) {
  held.delete(name);
  try {
    storage()?.removeItem(name);
    if (value !== null) storage()?.setItem(name, value);
  } catch {
    // The quota is spent: what follows keeps it in memory.
  }
  if (value !== null && storage()?.getItem(name) !== value) held.set(name, value);
}
