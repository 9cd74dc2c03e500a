/** Part of the step after which something asked for runs at once: those who ask keep no clock. */
const EARLY = 0.9;
/** How many steps something asked for too early waits for a later ask to carry it along. */
const PATIENCE = 1.5;

/**
 * Does something often asked for at most once in a while. It runs when asked rather than by a
 * timer of its own, so that several paces asked together also run together, in one picture.
 */
export class Pace {
  #run;
  #stepMs;
  #now;
  #ranAt = -Infinity;
  #timer = 0;

  /**
   * @param {() => void} run
   * @param {number} stepMs least time from one run to the next
   * @param {() => number} [now] a clock in ms
   */
  constructor(run, stepMs, now = () => performance.now()) {
    this.#run = run;
    this.#stepMs = stepMs;
    this.#now = now;
  }

  /** Run now if the last run is long enough ago, else before long. */
  ask() {
    const elapsedMs = this.#now() - this.#ranAt;
    if (elapsedMs >= this.#stepMs * EARLY) {
      this.#go();
    } else if (this.#timer === 0) {
      this.#timer = setTimeout(() => this.#go(), this.#stepMs * PATIENCE - elapsedMs);
    }
  }

  #go() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#ranAt = this.#now();
    this.#run();
  }
}
