/** One answer on the page: its reasoning, its text, its figures, and what became of it. */

import { element } from "../shared/element.js";
import { probabilityOf, shadeOf } from "./probability.js";

/** @typedef {import("./token_spans.js").TokenSpan} TokenSpan */

/** Which tokens an element of class `token` shows. @type {WeakMap<Element, TokenSpan>} */
const spans = new WeakMap();

/**
 * @param {Element} token
 * @returns {TokenSpan}
 */
export function spanOf(token) {
  return spans.get(token);
}

export class AnswerView {
  #text = element("div", { className: "text", dir: "auto" });
  #figures = element("dl", { className: "figures number", hidden: true });
  #reasoning = element("div", { className: "reasoning-text", dir: "auto" });
  #thought = element(
    "details",
    { className: "reasoning", hidden: true },
    element("summary", {}, "Reasoning"),
    this.#reasoning,
  );

  constructor() {
    this.item = element(
      "li",
      {},
      element("span", { className: "visually-hidden" }, "Model:"),
      this.#thought,
      this.#text,
      this.#figures,
    );
    this.item.dataset.role = "assistant";
    this.item.dataset.state = "streaming";
  }

  /** @param {string} text */
  addReasoning(text) {
    if (text === "") return;
    this.#thought.hidden = false;
    this.#reasoning.append(text);
  }

  /** @param {TokenSpan[]} added */
  addText(added) {
    for (const span of added) {
      if (span.entries.length === 0) this.#text.append(span.text);
      else this.#addToken(span);
    }
  }

  /** @param {TokenSpan} span */
  #addToken(span) {
    const probability = probabilityOf(span.entries);
    const token = element("span", { className: "token" }, span.text);
    token.dataset.probability = probability.toFixed(4);
    token.dataset.shade = String(shadeOf(probability));
    spans.set(token, span);
    this.#text.append(token);
    if (this.#text.tabIndex === 0) return;
    this.#text.tabIndex = 0;
    this.#text.setAttribute("role", "group");
    this.#text.setAttribute("aria-label", "Answer. Left and right walk along its tokens.");
  }

  /** @param {[name: string, value: string][]} figures */
  showFigures(figures) {
    this.#figures.hidden = false;
    this.#figures.replaceChildren(
      ...figures.map(([name, value]) =>
        element("div", {}, element("dt", {}, name), element("dd", {}, value)),
      ),
    );
  }

  /**
   * @param {"done" | "stopped"} state
   * @param {string} [note] what the reader should know about the end of the text
   */
  end(state, note) {
    this.item.dataset.state = state;
    if (note) this.#figures.before(element("p", { className: "note" }, note));
  }

  /**
   * @param {string} message
   * @param {...HTMLButtonElement} ways out of it
   */
  fail(message, ...ways) {
    this.item.dataset.state = "error";
    this.#figures.before(
      element(
        "div",
        { className: "notice", role: "alert" },
        element("p", {}, message),
        element("div", { className: "notice-buttons" }, ...ways),
      ),
    );
  }
}
