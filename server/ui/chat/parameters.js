/** The form of parameters: open where there is room, kept in the tab, checked by the browser. */

import { element } from "../shared/element.js";
import { recallJson, remember } from "../shared/tab_storage.js";

/** @typedef {import("./request_body.js").Parameters} Parameters */

const NAME = "octavo.parameters";
const WIDE = "(min-width: 900px)";

export class ParameterForm {
  #form = /** @type {HTMLFormElement} */ (document.getElementById("parameters"));
  #fold = /** @type {HTMLDetailsElement} */ (document.getElementById("fold"));

  constructor() {
    this.#restore();
    const wide = matchMedia(WIDE);
    this.#fold.open = wide.matches;
    wide.addEventListener("change", () => {
      this.#fold.open = wide.matches;
    });
    this.#form.addEventListener("input", ({ target }) => {
      this.#showError(/** @type {HTMLInputElement} */ (target), "");
      this.#keep();
    });
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    // The fields have their new values only after the event.
    this.#form.addEventListener("reset", () => {
      for (const field of this.#fields()) this.#showError(field, "");
      queueMicrotask(() => this.#keep());
    });
  }

  /** @returns {Parameters} */
  get values() {
    const values = Object.fromEntries(
      this.#fields().map((field) => [
        field.name,
        field.type === "checkbox" ? field.checked : field.value,
      ]),
    );
    return /** @type {Parameters} */ (values);
  }

  /** @returns {boolean} whether every field may be sent; the browser shows the one that may not */
  check() {
    if (this.#form.checkValidity()) return true;
    this.#fold.open = true;
    return this.#form.reportValidity();
  }

  /**
   * @param {string | null} name of the field that the server refused, if it is one of these
   * @param {string} message
   */
  refuse(name, message) {
    const field = this.#fields().find((one) => one.name === name);
    if (!field) return;
    this.#fold.open = true;
    // The server ends with the name and the value, which stand right above.
    this.#showError(field, message.replace(/ \(parameter=.*\)$/, ""));
  }

  /** @returns {HTMLInputElement[]} */
  #fields() {
    return [.../** @type {any} */ (this.#form.elements)].filter(({ name }) => name);
  }

  /**
   * @param {HTMLInputElement} field
   * @param {string} message empty: the field is fine
   */
  #showError(field, message) {
    const id = `${field.name}-error`;
    const hints = (field.getAttribute("aria-describedby") ?? "").split(" ");
    const others = hints.filter((hint) => hint !== "" && hint !== id);
    document.getElementById(id)?.remove();
    describe(field, others);
    field.removeAttribute("aria-invalid");
    if (message === "") return;
    field.setAttribute("aria-invalid", "true");
    describe(field, [...others, id]);
    field.closest(".field").append(element("p", { id, className: "field-error" }, message));
  }

  #keep() {
    remember(NAME, JSON.stringify(this.values));
  }

  #restore() {
    const kept = recallJson(NAME);
    if (typeof kept !== "object" || kept === null) return;
    for (const field of this.#fields()) {
      if (!Object.hasOwn(kept, field.name)) continue;
      if (field.type === "checkbox") field.checked = kept[field.name];
      else field.value = kept[field.name];
    }
  }
}

/**
 * @param {HTMLInputElement} field
 * @param {string[]} ids of the elements that say more about it
 */
function describe(field, ids) {
  if (ids.length > 0) field.setAttribute("aria-describedby", ids.join(" "));
  else field.removeAttribute("aria-describedby");
}
