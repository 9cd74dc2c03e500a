/** The panel about one block: state at once from the map, the rest as the server answers. */

import { element } from "../shared/element.js";
import { age } from "./age.js";
import { blockInWords, hashInWords, textInWords } from "./block_words.js";
import { publicId } from "./request_id.js";
import { write } from "./write.js";

const REST_MS = 120;
const REFRESH_MS = 400;
const HOLDERS_SHOWN = 3;

/** Asks for the block under the cursor once the cursor rests; one question at a time. */
export class BlockDetail {
  #index = null;
  #timer = 0;
  #controller = null;
  #isAskedAgain = false;
  #hasFailed = false;
  #isSettled = false;

  /**
   * @param {HTMLElement} panel
   * @param {(block: number, signal: AbortSignal) => Promise<Record<string, any>>} fetchBlock
   */
  constructor(panel, fetchBlock) {
    this.fetchBlock = fetchBlock;
    this.hint = panel.querySelector(".hint");
    this.body = panel.querySelector(".about-block");
    this.title = panel.querySelector("h3");
    this.age = panel.querySelector(".age");
    this.answer = panel.querySelector("dl");
  }

  /**
   * @param {number | null} index of a cell; null when the cursor is on none
   * @param {number} [value] of the cell
   * @param {string | null} [holder] id of the request whose number the cell has
   * @param {number} [ageS] seconds since it changed
   */
  show(index, value = 0, holder = null, ageS = 0) {
    const isAnother = index !== this.#index;
    this.#index = index;
    this.hint.hidden = index !== null;
    this.body.hidden = index === null;
    if (isAnother) this.#drop();
    if (index === null) return;
    write(this.title, blockInWords(index, value, holder));
    this.writeAge(ageS);
    if (isAnother) this.answer.replaceChildren();
    this.#askIn(isAnother ? REST_MS : REFRESH_MS);
  }

  /** @param {number} ageS seconds since the cell changed */
  writeAge(ageS) {
    write(this.age, `no change seen for ${age(ageS)}`);
  }

  /**
   * Ask again about the same block, unless nothing can be new, or asking failed: that may bring a
   * dialog up.
   */
  refresh() {
    if (this.#index !== null && !this.#hasFailed && !this.#isSettled) this.#askIn(0);
  }

  /** What was answered to another key is not to be shown any more. */
  forget() {
    this.#index = null;
    this.#drop();
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#controller?.abort();
    this.#controller = null;
    this.#isAskedAgain = false;
    this.#hasFailed = false;
    this.#isSettled = false;
  }

  #askIn(waitMs) {
    if (this.#timer !== 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#ask();
    }, waitMs);
  }

  async #ask() {
    if (this.#controller !== null) {
      this.#isAskedAgain = true;
      return;
    }
    const controller = new AbortController();
    this.#controller = controller;
    let entries;
    let hasFailed = false;
    let isSettled = false;
    try {
      const block = await this.fetchBlock(this.#index + 1, controller.signal);
      entries = entriesOf(block);
      isSettled = isFinal(block);
    } catch (error) {
      entries = [["Details", [error.message]]];
      hasFailed = true;
    }
    if (this.#controller !== controller) return;
    this.#controller = null;
    this.#hasFailed = hasFailed;
    this.#isSettled = isSettled;
    const nodes = entries.flatMap(([term, values]) => [
      element("dt", {}, term),
      ...values.map((value) => element("dd", {}, value)),
    ]);
    // Left alone where it is the same, so that a selection in it stays.
    const shown = [...this.answer.children];
    const isSame =
      shown.length === nodes.length && nodes.every((node, i) => node.isEqualNode(shown[i]));
    if (!isSame) this.answer.replaceChildren(...nodes);
    if (this.#isAskedAgain) {
      this.#isAskedAgain = false;
      this.#askIn(REFRESH_MS);
    }
  }
}

/**
 * Whether all that is still to come also changes the cell, which asks again: a full block of one
 * holder has its content, and a second holder would make it a shared one.
 */
function isFinal({ holders, hash }) {
  return holders.length < 2 && hash !== null;
}

/** Terms and their values, out of the server's answer. */
function entriesOf({ holders, hash, text }) {
  const shown = holders
    .slice(0, HOLDERS_SHOWN)
    .map(({ id, position }) => `${publicId(id)}, block ${position + 1} of its table`);
  if (holders.length > HOLDERS_SHOWN) shown.push(`and ${holders.length - HOLDERS_SHOWN} more`);
  const entries = [["Held by", shown.length > 0 ? shown : ["nobody"]]];
  const words = hashInWords(hash);
  entries.push(["Hash", [hash === null ? words : element("code", { title: hash }, words)]]);
  if (text !== null) entries.push(["Text", [element("q", {}, textInWords(text))]]);
  return entries;
}
