/** Says what is wrong and since when, and greys what is out of date. */

import { showStatus } from "../shared/header.js";
import { write } from "./write.js";

/** The notice at the top of the page. */
export class Trouble {
  #since = null;

  /**
   * @param {HTMLElement} notice
   * @param {HTMLElement} main whose content is out of date while there is trouble
   */
  constructor(notice, main) {
    this.notice = notice;
    this.main = main;
    this.text = notice.querySelector("p");
    this.again = notice.querySelector("button");
  }

  /**
   * @param {string} message what went wrong
   * @param {string} next what happens now, as a sentence
   * @param {string} status in few words, for the bar
   */
  show(message, next, status) {
    this.#since ??= new Date();
    const time = this.#since.toLocaleTimeString("en-GB");
    // Until the first event came there is nothing to see.
    const isEmpty = this.main.classList.contains("waiting");
    const age = isEmpty ? `(${time})` : `What you see is from before ${time}.`;
    write(this.text, `${sentence(message)} ${age} ${next}`);
    this.notice.hidden = false;
    this.main.classList.add("stale");
    showStatus("trouble", status);
  }

  /** All is well again. */
  clear() {
    this.#since = null;
    this.notice.hidden = true;
    this.main.classList.remove("stale");
    showStatus("ok", "Live");
  }
}

/** The engine's messages begin small and end without a full stop. @param {string} message */
function sentence(message) {
  const end = /[.!?]$/.test(message) ? "" : ".";
  return message.charAt(0).toUpperCase() + message.slice(1) + end;
}
