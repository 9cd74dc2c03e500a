/** Says what is wrong and since when, and greys what is out of date. */

import { showStatus } from "../shared/header.js";
import { write } from "./write.js";

/** The notice at the top of the page. */
export class Trouble {
  /** Since when what is shown may be out of date. @type {Date | null} */
  #since = null;
  #isLive = false;

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

  /** From now on what is shown may be out of date, as while the tab is hidden. */
  doubt() {
    this.#since ??= new Date();
    this.#isLive = false;
  }

  /**
   * @param {string} message what went wrong
   * @param {string} next what happens now, as a sentence
   * @param {string} status in few words, for the bar
   */
  show(message, next, status) {
    this.doubt();
    // Until the first frame came there is nothing to see.
    const isEmpty = this.main.classList.contains("waiting");
    const time = this.#since.toLocaleTimeString("en-GB");
    const age = isEmpty ? "" : `What you see is from before ${time}.`;
    write(this.text, [sentence(message), age, next].filter((part) => part !== "").join(" "));
    this.notice.hidden = false;
    this.main.classList.add("stale");
    showStatus("trouble", status);
  }

  /** What is shown is true, and all is well again: said of each frame, of nothing less. */
  clear() {
    // Ten times a second: attributes written anew, even the same, cost styles each time.
    if (this.#isLive) return;
    this.#isLive = true;
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
