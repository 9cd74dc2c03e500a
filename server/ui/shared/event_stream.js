/** Server-sent events out of a fetch response (EventSource can neither POST nor send a key). */

const LINE_END = /\r\n|\r|\n/g;

/** Takes text in pieces of any size and gives the `data` of each event as it completes. */
export class EventParser {
  /** The beginning of a line whose end has not arrived. */
  #line = "";
  /** @type {string[]} */
  #data = [];
  #endedInReturn = false;

  /**
   * @param {string} text the next piece of the stream
   * @returns {string[]} the data of each event that this piece completes
   */
  push(text) {
    if (text === "") return [];
    // The line ended at the CR already; an LF that comes with the next piece ends no second one.
    const piece = this.#endedInReturn && text.startsWith("\n") ? text.slice(1) : text;
    this.#endedInReturn = text.endsWith("\r");
    const events = [];
    let start = 0;
    for (const end of piece.matchAll(LINE_END)) {
      const line = this.#line + piece.slice(start, end.index);
      this.#line = "";
      start = end.index + end[0].length;
      if (line !== "") {
        this.#field(line);
      } else if (this.#data.length > 0) {
        events.push(this.#data.join("\n"));
        this.#data = [];
      }
    }
    this.#line += piece.slice(start);
    return events;
  }

  /** @param {string} line */
  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    if (name !== "data") return;
    const value = colon < 0 ? "" : line.slice(colon + 1);
    this.#data.push(value.startsWith(" ") ? value.slice(1) : value);
  }
}

/**
 * The data of each event of a response, as it arrives. Leaving the loop ends the request.
 *
 * @param {Response} response
 * @returns {AsyncGenerator<string, void, void>}
 */
export async function* dataOf(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // A stream that broke refuses to be cancelled; its error has been thrown above.
    reader.cancel().catch(() => {});
  }
}
