/** The text of a chunk cut into its tokens. */

/**
 * One entry of OpenAI's `logprobs.content`.
 *
 * @typedef {object} TokenEntry
 * @property {string} token
 * @property {number} logprob natural logarithm
 * @property {number[] | null} bytes
 * @property {TokenEntry[]} [top_logprobs]
 */

/**
 * Text that is shown as one piece, and the tokens it came from: one, unless several make up one
 * character or their texts could not be told apart; none where there are no probabilities.
 *
 * @typedef {{text: string, entries: TokenEntry[]}} TokenSpan
 */

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lossy = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();

/**
 * Entries beyond the text are left out: they are the end mark or a stop string, which the server
 * does not send.
 *
 * @param {string} content
 * @param {TokenEntry[]} entries
 * @returns {TokenSpan[]} whose texts joined are `content`
 */
export function tokenSpans(content, entries) {
  if (content === "") return [];
  const spans = [];
  let rest = content;
  /** @type {TokenEntry[]} */
  let group = [];
  for (const entry of entries) {
    if (rest === "") break;
    group.push(entry);
    const text = decoded(group);
    if (text === null || text === "") continue;
    if (!rest.startsWith(text)) return [{ text: content, entries }];
    spans.push({ text, entries: group });
    rest = rest.slice(text.length);
    group = [];
  }
  if (rest === "") return spans;
  // What is left: a character that the model never finished, or text its tokens do not spell.
  if (group.length === 0 || lossy.decode(bytesOf(group)) !== rest) {
    return [{ text: content, entries }];
  }
  return [...spans, { text: rest, entries: group }];
}

/**
 * @param {TokenEntry[]} entries
 * @returns {string | null} their text; null where the bytes are no whole characters
 */
export function decoded(entries) {
  try {
    return strict.decode(bytesOf(entries));
  } catch {
    return null;
  }
}

/**
 * @param {TokenEntry[]} entries
 * @returns {Uint8Array}
 */
export function bytesOf(entries) {
  return Uint8Array.from(
    entries.flatMap(({ bytes, token }) => bytes ?? [...encoder.encode(token)]),
  );
}
