/** Ids of requests as the reader knows them. */

const MOST_SHOWN = 20;
const TAIL_SHOWN = 7;
/** What the server adds to be unique; the number of a prompt or a choice may follow. */
const ADDED = /-[0-9a-f]{16}(?=(\.\d+)?(#\d+)?$)/;

/**
 * @param {string} id as the engine has it
 * @returns {string} as the client has it, in the answer's `id`: "chatcmpl-order-17", and with
 *   several prompts or choices which of them, "cmpl-order-17.0#1"
 */
export function publicId(id) {
  return id.replace(ADDED, "");
}

/**
 * @param {string} id as the engine has it
 * @returns {string} the client's id, without its middle where it is long: both its beginning and
 *   its end may be what tells it from others
 */
export function shortId(id) {
  const known = publicId(id);
  if (known.length <= MOST_SHOWN) return known;
  const head = known.slice(0, MOST_SHOWN - TAIL_SHOWN - 1);
  return `${head}…${known.slice(-TAIL_SHOWN)}`;
}
