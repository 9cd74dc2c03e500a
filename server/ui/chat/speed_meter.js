/** When the tokens of one answer came. */

export class SpeedMeter {
  /** @type {number | null} */
  #firstS = null;
  #lastS = 0;
  #numTokens = 0;

  /** @param {number} sentS when the request was sent, in seconds of any clock */
  constructor(sentS) {
    this.sentS = sentS;
  }

  /**
   * @param {number} nowS by the same clock
   * @param {number} numTokens that came just now
   */
  arrived(nowS, numTokens) {
    this.#firstS ??= nowS;
    this.#lastS = nowS;
    this.#numTokens += numTokens;
  }

  /** Tokens seen so far: a guess where a chunk does not tell how many it holds. */
  get numTokens() {
    return this.#numTokens;
  }

  /** Seconds from the request to the first token; null before it. */
  get ttftS() {
    return this.#firstS === null ? null : this.#firstS - this.sentS;
  }

  /**
   * The first token waited for the prompt, so the speed counts those after it.
   *
   * @param {number} [numTokens] the true number, once it is known
   * @returns {number | null} tokens a second; null while there is nothing to divide
   */
  tokensPerS(numTokens = this.#numTokens) {
    const tookS = this.#firstS === null ? 0 : this.#lastS - this.#firstS;
    return tookS > 0 && numTokens > 1 ? (numTokens - 1) / tookS : null;
  }
}
