/** Which models the server has: asked for until it answers. */

import { ApiError, request } from "../shared/api.js";
import { element } from "../shared/element.js";
import { showModel, showStatus } from "../shared/header.js";
import { statusFor } from "./error_hint.js";

const LONGEST_WAIT_S = 15;

export class Models {
  #field = document.getElementById("models");
  #choice = /** @type {HTMLSelectElement} */ (document.getElementById("model-choice"));
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  constructor() {
    this.#choice.addEventListener("change", () => showModel(this.#choice.value));
  }

  /** @returns {string | null} the id to ask for; null while it is not known */
  get chosen() {
    return this.#choice.value || null;
  }

  /**
   * Asks the server now, and again while it cannot be reached.
   *
   * @param {number} [waitS] before the second try; doubles with each
   */
  async load(waitS = 1) {
    clearTimeout(this.#timer);
    try {
      const { data } = await (await request("v1/models")).json();
      this.#show(data.map(({ id }) => id));
      showStatus("ok", "ready");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      showStatus("trouble", statusFor(error));
      if (error.status === 401) return;
      this.#timer = setTimeout(
        () => this.load(Math.min(2 * waitS, LONGEST_WAIT_S)),
        waitS * 1000,
      );
    }
  }

  /** @param {string[]} ids */
  #show(ids) {
    const before = this.#choice.value;
    this.#choice.replaceChildren(...ids.map((id) => element("option", { value: id }, id)));
    if (ids.includes(before)) this.#choice.value = before;
    this.#field.hidden = ids.length < 2;
    showModel(this.#choice.value);
  }
}
