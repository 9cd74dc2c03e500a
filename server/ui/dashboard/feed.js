/** The stream of what happens in the server: opened, parsed, and opened again when it breaks. */

import { waitS } from "./backoff.js";

const SILENCE_MS = 15000;
const REFUSALS = [401, 403];

/**
 * @typedef {object} FeedSettings
 * @property {(signal: AbortSignal) => AsyncIterable<string>} open begins a stream and gives each
 *   event's data
 * @property {(message: Record<string, any>) => void} onMessage
 * @property {(broken: {message: string, retryInS: number | null}) => void} onBroken the stream
 *   ended; no retry in sight when the server refuses the key
 * @property {number} [silenceMs] a stream that is silent so long counts as broken
 */

/** One stream at a time, for as long as it is wanted. */
export class Feed {
  #settings;
  #failures = 0;
  #controller = null;
  #timer = 0;

  /** @param {FeedSettings} settings */
  constructor(settings) {
    this.#settings = { silenceMs: SILENCE_MS, ...settings };
  }

  /** Open the stream now, if it is not open; a pending retry is brought forward. */
  start() {
    if (this.#controller !== null) return;
    clearTimeout(this.#timer);
    this.#controller = new AbortController();
    this.#follow(this.#controller);
  }

  /** Close the stream and try no more. */
  stop() {
    clearTimeout(this.#timer);
    this.#controller?.abort();
    this.#controller = null;
  }

  /** Open it anew, as with another key. */
  restart() {
    this.stop();
    this.#failures = 0;
    this.start();
  }

  async #follow(controller) {
    const { open, onMessage, silenceMs } = this.#settings;
    let error = new Error("The server ended the stream.");
    let watchdog = 0;
    const listen = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => controller.abort(), silenceMs);
    };
    try {
      for await (const data of open(controller.signal)) {
        if (this.#controller !== controller) return;
        // Only from the first event on: before it, the reader may be asked for the key.
        listen();
        onMessage(JSON.parse(data));
        this.#failures = 0;
      }
    } catch (caught) {
      error = caught;
    } finally {
      clearTimeout(watchdog);
    }
    // Stopped, or begun anew: nothing broke.
    if (this.#controller !== controller) return;
    if (controller.signal.aborted) error = new Error("The server has fallen silent.");
    controller.abort();
    this.#controller = null;
    this.#retryAfter(error);
  }

  #retryAfter(error) {
    this.#failures += 1;
    const isRefused = REFUSALS.includes(error.status);
    const retryInS = isRefused ? null : Math.max(waitS(this.#failures), error.retryAfterS ?? 0);
    this.#settings.onBroken({ message: error.message, retryInS });
    if (retryInS !== null) this.#timer = setTimeout(() => this.start(), retryInS * 1000);
  }
}
