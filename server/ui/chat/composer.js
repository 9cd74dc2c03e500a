/** Where the reader writes: a field that grows, and one place for Send and Stop. */

export class Composer {
  #form = /** @type {HTMLFormElement} */ (document.getElementById("composer"));
  #prompt = /** @type {HTMLTextAreaElement} */ (document.getElementById("prompt"));
  #send = /** @type {HTMLButtonElement} */ (document.getElementById("send"));
  #stop = /** @type {HTMLButtonElement} */ (document.getElementById("stop"));

  /**
   * @param {{send: (prompt: string) => boolean, stop: () => void}} actions
   *   `send` tells whether the prompt was taken; if not, it stays in the field
   */
  constructor({ send, stop }) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      const prompt = this.#prompt.value;
      if (prompt.trim() !== "" && send(prompt)) this.prompt = "";
      else if (prompt.trim() === "") this.#prompt.focus();
    });
    this.#prompt.addEventListener("keydown", (event) => {
      // 229: Safari ends the composition before it reports the Enter that ended it.
      const isComposing = event.isComposing || event.keyCode === 229;
      if (event.key !== "Enter" || event.shiftKey || isComposing) return;
      event.preventDefault();
      if (!this.isAnswering) this.#form.requestSubmit();
    });
    this.#prompt.addEventListener("input", () => this.#grow());
    this.#stop.addEventListener("click", stop);
  }

  /** @param {string} text */
  set prompt(text) {
    this.#prompt.value = text;
    this.#grow();
  }

  get isAnswering() {
    return this.#send.hidden;
  }

  /** @param {boolean} isAnswering whether Stop takes the place of Send */
  set isAnswering(isAnswering) {
    const leaving = isAnswering ? this.#send : this.#stop;
    const coming = isAnswering ? this.#stop : this.#send;
    const hadFocus = document.activeElement === leaving;
    coming.hidden = false;
    leaving.hidden = true;
    if (hadFocus) coming.focus();
  }

  focus() {
    this.#prompt.focus();
  }

  #grow() {
    this.#prompt.style.height = "auto";
    const borders = this.#prompt.offsetHeight - this.#prompt.clientHeight;
    this.#prompt.style.height = `${this.#prompt.scrollHeight + borders}px`;
  }
}
