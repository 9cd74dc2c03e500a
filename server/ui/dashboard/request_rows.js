/** Which requests the list shows, in which order, and how long the parts of their bars are. */

const DONE_SHOWN_MS = 5000;
const MOST_DONE = 8;
const LEAST_SCALE_S = 1;

/**
 * @typedef {object} Row a request of a frame, its columns by name, and
 * @property {string} id
 * @property {number} owner
 * @property {"queue" | "prefill" | "decode" | "done"} stage
 * @property {number} queue_s
 * @property {number} prefill_s
 * @property {number} decode_s
 * @property {number | null} gone_at_ms when it was missing for the first time
 */

/**
 * Keeps requests in the order of their first appearance, and those that ended a little longer: in
 * their place, so that the rows below do not jump, unless what lives needs it.
 */
export class RequestRows {
  /** @type {Map<string, Row>} */
  #rows = new Map();

  /**
   * @param {Record<string, any>[]} present the frame's requests, columns by name
   * @param {number} nowMs
   * @param {{num_running?: number, num_waiting?: number}} [totals] those without a row included
   */
  update(present, nowMs, { num_running = 0, num_waiting = 0 } = {}) {
    const ids = new Set();
    const numQueued = present.filter(({ stage }) => stage === "queue").length;
    const isCut = {
      running: num_running > present.length - numQueued,
      waiting: num_waiting > numQueued,
    };
    for (const request of present) {
      ids.add(request.id);
      this.#rows.set(request.id, { ...request, gone_at_ms: null });
    }
    for (const [id, row] of this.#rows) {
      if (ids.has(id) || row.gone_at_ms !== null) continue;
      // It may just have lost its place among those that have a row.
      if (row.stage === "queue" ? isCut.running || isCut.waiting : isCut.running) {
        this.#rows.delete(id);
        continue;
      }
      this.#rows.set(id, { ...row, stage: "done", gone_at_ms: nowMs });
    }
    this.expire(nowMs);
  }

  /** Drop what ended long enough ago. @param {number} nowMs */
  expire(nowMs) {
    for (const [id, row] of this.#rows) {
      if (row.gone_at_ms !== null && nowMs - row.gone_at_ms >= DONE_SHOWN_MS) {
        this.#rows.delete(id);
      }
    }
  }

  /**
   * Drop what ended first, so that the places left by what lives hold all that ended.
   *
   * @param {number} places that there are for rows
   */
  makeRoom(places) {
    const done = this.all().filter((row) => row.gone_at_ms !== null);
    const left = Math.min(MOST_DONE, Math.max(0, places - (this.#rows.size - done.length)));
    done.sort((one, other) => one.gone_at_ms - other.gone_at_ms);
    for (const { id } of done.slice(0, Math.max(0, done.length - left))) this.#rows.delete(id);
  }

  /** Forget all. */
  clear() {
    this.#rows.clear();
  }

  /** @returns {Row[]} */
  all() {
    return [...this.#rows.values()];
  }

  /** @returns {boolean} whether rows of ended requests wait to be dropped */
  get hasDone() {
    return this.all().some((row) => row.gone_at_ms !== null);
  }

  /**
   * @param {number} owner
   * @returns {string | null} the id of the request with this number
   */
  idOf(owner) {
    if (owner === 0) return null;
    return this.all().findLast((row) => row.owner === owner)?.id ?? null;
  }
}

/**
 * @param {Row} row
 * @returns {number} seconds since the request arrived
 */
export function lifeS(row) {
  return row.queue_s + row.prefill_s + row.decode_s;
}

/**
 * @param {Row[]} rows
 * @returns {number} seconds that the whole length of a bar stands for
 */
export function scaleS(rows) {
  return rows.reduce((longest, row) => Math.max(longest, lifeS(row)), LEAST_SCALE_S);
}

/**
 * The bar of one request: how long each stage took, and how much of its tokens it has done.
 *
 * @param {Row} row
 * @param {number} scale seconds for the whole length
 * @returns {{stage: string, length: number, progress: number}[]} both as shares, 0 to 1
 */
export function segmentsOf(row, scale) {
  return [
    { stage: "queue", length: row.queue_s / scale, progress: 1 },
    {
      stage: "prefill",
      length: row.prefill_s / scale,
      progress: row.stage === "prefill" ? share(row.computed_tokens, row.prompt_tokens) : 1,
    },
    {
      stage: "decode",
      length: row.decode_s / scale,
      progress: row.stage === "decode" ? share(row.output_tokens, row.max_tokens) : 1,
    },
  ];
}

function share(part, whole) {
  return whole > 0 ? Math.min(1, part / whole) : 1;
}
