/** The last so many numbers. */
export class Ring {
  #numbers;
  #count = 0;

  /** @param {number} size how many are kept */
  constructor(size) {
    this.#numbers = new Float64Array(size);
  }

  /** @param {number} number */
  push(number) {
    this.#numbers[this.#count % this.#numbers.length] = number;
    this.#count += 1;
  }

  /** @returns {number[]} oldest first */
  toArray() {
    const { length } = this.#numbers;
    if (this.#count <= length) return [...this.#numbers.subarray(0, this.#count)];
    const oldest = this.#count % length;
    return [...this.#numbers.subarray(oldest), ...this.#numbers.subarray(0, oldest)];
  }
}
