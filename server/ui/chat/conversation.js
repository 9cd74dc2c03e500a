/** The conversation: what was asked and answered, and the answer that is on its way. */

import { ApiError, request } from "../shared/api.js";
import { element } from "../shared/element.js";
import { showStatus } from "../shared/header.js";
import { answerChunks } from "./answer_chunks.js";
import { AnswerView } from "./answer_view.js";
import { hintFor, isTooLong, statusFor } from "./error_hint.js";
import { figuresOf } from "./figures.js";
import { requestBody } from "./request_body.js";
import { SpeedMeter } from "./speed_meter.js";
import { tokenSpans } from "./token_spans.js";

/** @typedef {import("./request_body.js").Exchange} Exchange */

const FIGURES_EVERY_S = 0.25;
const nowS = () => performance.now() / 1000;

export class Conversation {
  #list = document.getElementById("conversation");
  /** @type {Exchange[]} */
  #exchanges = [];
  /** @type {AbortController | null} */
  #running = null;

  /**
   * @param {import("./parameters.js").ParameterForm} parameters
   * @param {import("./models.js").Models} models
   * @param {(isAnswering: boolean) => void} changed called when an answer starts and ends
   * @param {(prompt: string) => void} startOver empties the conversation and keeps this prompt
   */
  constructor(parameters, models, changed, startOver) {
    this.parameters = parameters;
    this.models = models;
    this.changed = changed;
    this.startOver = startOver;
  }

  /** What was said so far, for `restore`. @returns {readonly Exchange[]} */
  get exchanges() {
    return this.#exchanges;
  }

  /** @param {Exchange[]} exchanges from an earlier visit; only their text is known */
  restore(exchanges) {
    for (const exchange of exchanges) {
      this.#add(exchange);
      const view = new AnswerView();
      if (exchange.answer !== "") view.addText([{ text: exchange.answer, entries: [] }]);
      view.end("done", exchange.answer === "" ? "No answer came." : undefined);
      this.#list.append(view.item);
    }
  }

  /** @param {string} prompt */
  ask(prompt) {
    const exchange = { prompt, answer: "" };
    this.#add(exchange);
    return this.#answer(exchange);
  }

  /** @param {Exchange} exchange */
  #add(exchange) {
    this.#exchanges.push(exchange);
    const item = element(
      "li",
      {},
      element("span", { className: "visually-hidden" }, "You:"),
      element("div", { className: "text", dir: "auto" }, exchange.prompt),
    );
    item.dataset.role = "user";
    this.#list.append(item);
  }

  /** Ends the answer that is on its way; what came of it stays. */
  stop() {
    this.#running?.abort();
  }

  clear() {
    this.stop();
    this.#exchanges = [];
    this.#list.replaceChildren();
    this.models.load();
  }

  /**
   * @param {Exchange} exchange
   * @param {Element} [failed] an earlier answer whose place the new one takes
   */
  async #answer(exchange, failed) {
    const view = new AnswerView();
    const running = new AbortController();
    if (failed) failed.replaceWith(view.item);
    else this.#list.append(view.item);
    this.#running = running;
    this.changed(true);
    showStatus("busy", "answering");
    try {
      await this.#receive(exchange, view, running.signal);
      showStatus("ok", "ready");
    } catch (error) {
      if (running.signal.aborted) {
        view.end("stopped", "Stopped.");
        showStatus("ok", "stopped");
      } else {
        this.#fail(error, exchange, view);
      }
    } finally {
      if (this.#running === running) {
        this.#running = null;
        this.changed(false);
      }
    }
  }

  /**
   * @param {Exchange} exchange
   * @param {AnswerView} view
   * @param {AbortSignal} signal
   */
  async #receive(exchange, view, signal) {
    const soFar = this.#exchanges.slice(0, this.#exchanges.indexOf(exchange) + 1);
    const body = requestBody(this.models.chosen, soFar, this.parameters.values);
    const meter = new SpeedMeter(nowS());
    let shownS = 0;
    let usage = null;
    let finishReason = null;
    const show = () => view.showFigures(figuresOf(meter, usage));
    try {
      const response = await request("v1/chat/completions", { method: "POST", body, signal });
      for await (const chunk of answerChunks(response, signal)) {
        usage = chunk.usage ?? usage;
        finishReason = chunk.finishReason ?? finishReason;
        if (chunk.content === "" && chunk.reasoning === "") continue;
        meter.arrived(nowS(), chunk.entries.length || 1);
        exchange.answer += chunk.content;
        view.addReasoning(chunk.reasoning);
        view.addText(tokenSpans(chunk.content, chunk.entries));
        if (nowS() - shownS < FIGURES_EVERY_S) continue;
        shownS = nowS();
        show();
      }
    } finally {
      if (meter.numTokens > 0 || usage) show();
    }
    view.end("done", endNote(finishReason, body.max_tokens !== undefined));
  }

  /**
   * @param {unknown} error
   * @param {Exchange} exchange
   * @param {AnswerView} view
   */
  #fail(error, exchange, view) {
    if (!(error instanceof ApiError)) {
      showStatus("trouble", "answer failed");
      view.fail(`The page failed: ${error}`);
      throw error;
    }
    const again = element("button", { type: "button" }, "Try again");
    again.addEventListener("click", () => {
      if (this.#running || !this.parameters.check()) return;
      exchange.answer = "";
      this.#answer(exchange, view.item);
    });
    const ways = [again];
    if (isTooLong(error) && this.#exchanges.indexOf(exchange) > 0) {
      const fresh = element("button", { type: "button" }, "New chat with this message");
      fresh.addEventListener("click", () => this.startOver(exchange.prompt));
      ways.unshift(fresh);
    }
    view.fail(`${error.message} ${hintFor(error)}`.trim(), ...ways);
    this.parameters.refuse(error.param, error.message);
    showStatus("trouble", statusFor(error));
    if (error.status === 0) this.models.load();
  }
}

/**
 * @param {string | null} finishReason
 * @param {boolean} hasLimit whether the reader set one
 * @returns {string | undefined}
 */
function endNote(finishReason, hasLimit) {
  if (finishReason !== "length") return undefined;
  return hasLimit
    ? "Cut off at max tokens. Raise it under Parameters for longer answers."
    : "Cut off: the server’s limit of tokens, or the model’s context, was reached.";
}
