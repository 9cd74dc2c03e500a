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
 * Entries that spell nothing of the text are left out. After it, they are the end mark or a stop
 * string, which the server does not send; before it, the end of the reasoning.
 *
 * @param {string} content
 * @param {TokenEntry[]} entries
 * @returns {TokenSpan[]} whose texts joined are `content`
 */
export function tokenSpans(content, entries) {
  if (content === "") return [];
  const own = spellersOf(content, entries);
  return spelt(content, own) ?? [{ text: content, entries: own }];
}

/**
 * The last entries that end with the text, and no more of them than that takes: from the end,
 * since the reasoning may read the same.
 *
 * @param {string} content
 * @param {TokenEntry[]} entries
 * @returns {TokenEntry[]} all, where none spell the text
 */
function spellersOf(content, entries) {
  if (lossy.decode(bytesOf(entries)) === content) return entries;
  for (let end = entries.length; end > 0; end -= 1) {
    for (let start = end - 1; start >= 0; start -= 1) {
      const own = entries.slice(start, end);
      const text = decoded(own);
      if (text?.endsWith(content)) return own;
      if (text !== null && text.length >= content.length) break;
    }
  }
  return entries;
}

/**
 * @param {string} content
 * @param {TokenEntry[]} entries
 * @returns {TokenSpan[] | null} null where the entries do not spell the text
 */
function spelt(content, entries) {
  const spans = [];
  let rest = content;
  /** @type {TokenEntry[]} */
  let group = [];
  for (const entry of entries) {
    if (rest === "") break;
    group.push(entry);
    const text = decoded(group);
    if (text === null || text === "") continue;
    if (!rest.startsWith(text)) return null;
    spans.push({ text, entries: group });
    rest = rest.slice(text.length);
    group = [];
  }
  if (rest === "") return spans;
  // What is left: a character that the model never finished, or text its tokens do not spell.
  if (group.length === 0 || lossy.decode(bytesOf(group)) !== rest) return null;
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
