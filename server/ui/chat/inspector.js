/** What the model thought of at a token: its probability and the alternatives. */

import { element } from "../shared/element.js";
import { percent } from "../shared/format.js";
import { spanOf } from "./answer_view.js";
import { placed } from "./placement.js";
import { alternativesTo, labelOf, probabilityOf, visible } from "./probability.js";

/** As in chat.css: narrower, the inspector is a strip at the bottom. */
const STRIP = "(max-width: 899px)";
const GAP_PX = 8;

export class Inspector {
  #root = document.getElementById("inspector");
  #said = document.getElementById("inspector-said");
  #strip = matchMedia(STRIP);

  /** The element of class `token` that is looked at. @type {HTMLElement | null} */
  token = null;
  /** Whether it stays when the pointer leaves. */
  isPinned = false;

  constructor() {
    // So that a click into it does not count as leaving the answer.
    this.#root.tabIndex = -1;
    const place = () => this.token && this.#place();
    document.addEventListener("scroll", place, { capture: true, passive: true });
    window.addEventListener("resize", place);
  }

  /** @returns {HTMLElement} the inspector's own element */
  get root() {
    return this.#root;
  }

  /**
   * @param {HTMLElement} token
   * @param {boolean} isPinned whether to stay until closed, and to be read out
   */
  show(token, isPinned) {
    this.isPinned = isPinned;
    if (token === this.token) return;
    this.token?.classList.remove("current");
    this.token = token;
    token.classList.add("current");
    const { text, entries } = spanOf(token);
    const probability = percent(probabilityOf(entries));
    const close = element("button", { type: "button", className: "quiet close" }, "×");
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => this.hide());
    this.#root.replaceChildren(
      element(
        "p",
        { className: "looked-at" },
        element("code", {}, visible(text)),
        element("span", { className: "number" }, probability),
      ),
      entries.length === 1 ? alternatives(entries[0]) : parts(entries),
      close,
    );
    this.#root.hidden = false;
    this.#place();
    this.#said.textContent = isPinned ? `${visible(text)}, ${probability}` : "";
  }

  hide() {
    this.token?.classList.remove("current");
    this.token = null;
    this.isPinned = false;
    this.#root.hidden = true;
    this.#said.textContent = "";
  }

  #place() {
    if (this.#strip.matches) {
      this.#root.style.removeProperty("left");
      this.#root.style.removeProperty("top");
      return;
    }
    const { width, height } = this.#root.getBoundingClientRect();
    const viewport = { width: innerWidth, height: innerHeight };
    // A token that is broken over two lines has two boxes; its text begins in the first.
    const [anchor = this.token.getBoundingClientRect()] = this.token.getClientRects();
    const { left, top } = placed(anchor, { width, height }, viewport, GAP_PX);
    this.#root.style.left = `${left}px`;
    this.#root.style.top = `${top}px`;
  }
}

/** @param {import("./token_spans.js").TokenEntry} entry */
function alternatives(entry) {
  return rows(alternativesTo(entry));
}

/** @param {import("./token_spans.js").TokenEntry[]} entries that make up one piece of text */
function parts(entries) {
  const list = rows(
    entries.map((entry) => ({
      text: labelOf(entry),
      probability: probabilityOf([entry]),
      isChosen: false,
    })),
  );
  const title = element("p", { className: "hint" }, `${entries.length} tokens, one after another:`);
  return element("div", {}, title, list);
}

/** @param {import("./probability.js").Alternative[]} alternatives */
function rows(alternatives) {
  return element(
    "ol",
    { className: "alternatives" },
    ...alternatives.map(({ text, probability, isChosen }) => {
      const bar = element("span", { className: "likelihood" });
      bar.style.setProperty("--share", String(probability));
      const row = element(
        "li",
        {},
        element("code", {}, text),
        bar,
        element("span", { className: "number" }, percent(probability)),
      );
      if (isChosen) row.setAttribute("aria-current", "true");
      return row;
    }),
  );
}
