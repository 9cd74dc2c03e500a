/** Cells that glow for a moment because they changed. */

const LASTS_MS = 600;
const MOST_AT_ONCE = 5000;

/** Remembers when each cell changed, and answers how much of its glow is left. */
export class Flashes {
  /** @type {Map<number, number>} cell → when it changed, in ms; the earliest first */
  #startedAt = new Map();

  /**
   * So many changes at once are another picture, not a movement: they do not glow.
   *
   * @param {number[]} indices of the cells that changed
   * @param {number} nowMs
   */
  add(indices, nowMs) {
    if (indices.length > MOST_AT_ONCE) return;
    for (const index of indices) {
      this.#startedAt.delete(index);
      this.#startedAt.set(index, nowMs);
    }
  }

  /** Forget all of them. */
  clear() {
    this.#startedAt.clear();
  }

  /** @returns {number} how many cells glow */
  get size() {
    return this.#startedAt.size;
  }

  /** @returns {IterableIterator<number>} the cells that glow */
  cells() {
    return this.#startedAt.keys();
  }

  /**
   * @param {number} index of a cell
   * @param {number} nowMs
   * @returns {number} 1 when it has just changed, falling to 0
   */
  strength(index, nowMs) {
    const startedAt = this.#startedAt.get(index);
    if (startedAt === undefined) return 0;
    return Math.min(1, Math.max(0, 1 - (nowMs - startedAt) / LASTS_MS));
  }

  /**
   * Forget those that are over.
   *
   * @param {number} nowMs
   */
  expire(nowMs) {
    for (const [index, startedAt] of this.#startedAt) {
      if (nowMs - startedAt < LASTS_MS) return;
      this.#startedAt.delete(index);
    }
  }
}
