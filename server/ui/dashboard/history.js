/** The samples of the last ten minutes, by column. */

const WINDOW_S = 600;
/** Samples are further apart than usual while the engine computes a long step, but not so far. */
const LONGEST_SAMPLE_S = 15;

/** Grows by one sample at a time; what is older than the window falls out. */
export class History {
  /**
   * @param {string[]} columns as the stream names them, "at" among them
   * @param {(number | null)[][]} samples oldest first
   */
  constructor(columns, samples = []) {
    this.columns = new Map(columns.map((name) => [name, []]));
    this.names = columns;
    for (const sample of samples) this.add(sample);
  }

  /** @returns {number[]} when each sample was taken, in seconds */
  get times() {
    return this.columns.get("at") ?? [];
  }

  /** @returns {number} the server's time of the last sample in seconds, 0 without any */
  get now() {
    return this.times.at(-1) ?? 0;
  }

  /** @param {(number | null)[]} sample */
  add(sample) {
    this.names.forEach((name, i) => this.columns.get(name).push(sample[i] ?? null));
    while (this.times.length > 1 && this.times[0] < this.now - WINDOW_S) {
      for (const values of this.columns.values()) values.shift();
    }
  }

  /**
   * @param {string} name of a column
   * @returns {(number | null)[]} oldest first; empty for a column that the server has not
   */
  column(name) {
    return this.columns.get(name) ?? [];
  }

  /**
   * The last sample in which something was measured.
   *
   * @param {string} name of a column
   * @returns {{value: number, ageS: number} | null}
   */
  latest(name) {
    const values = this.column(name);
    for (let i = values.length - 1; i >= 0; i -= 1) {
      if (values[i] !== null) return { value: values[i], ageS: this.now - this.times[i] };
    }
    return null;
  }

  /**
   * @param {number} ageS seconds before the last sample
   * @returns {number | null} the place of the sample nearest to that moment, null where none is
   *   near
   */
  placeAt(ageS) {
    const wanted = this.now - ageS;
    let nearest = null;
    let least = LONGEST_SAMPLE_S;
    this.times.forEach((time, place) => {
      const distance = Math.abs(time - wanted);
      if (distance <= least) {
        least = distance;
        nearest = place;
      }
    });
    return nearest;
  }

  /**
   * How many of something there were, from its rate: a sample covers the time since the last one.
   *
   * @param {string} name of a column that counts per second
   * @param {number} spanS seconds before the last sample
   * @param {number} intervalS seconds that a sample covers whose predecessor is not known
   * @returns {number}
   */
  total(name, spanS, intervalS) {
    const { times, now } = this;
    return this.column(name).reduce((sum, perS, i) => {
      if (times[i] <= now - spanS) return sum;
      const sinceLastS = times[i] - times[i - 1];
      // Not so where there is no last one, or the server's clock was set.
      const isLength = sinceLastS > 0 && sinceLastS <= LONGEST_SAMPLE_S;
      return sum + (perS ?? 0) * (isLength ? sinceLastS : intervalS);
    }, 0);
  }
}
