/** What is asked of the server: the conversation so far and the parameters that were filled in. */

/** @typedef {{prompt: string, answer: string}} Exchange */

/**
 * The form's fields as they were typed. A blank one is left to the server.
 *
 * @typedef {object} Parameters
 * @property {string} system
 * @property {string} temperature
 * @property {string} top_p
 * @property {string} max_tokens
 * @property {string} seed
 * @property {string} stop one string a line, `\n` standing for a line break
 * @property {boolean} logprobs
 */

const NUMBERS = /** @type {const} */ (["temperature", "top_p", "max_tokens", "seed"]);
const TOP_LOGPROBS = 5;

/**
 * @param {string | null} model null: the server's only one
 * @param {Exchange[]} exchanges the last one is the one to answer
 * @param {Parameters} parameters
 * @returns {Record<string, unknown>} body of POST v1/chat/completions
 */
export function requestBody(model, exchanges, parameters) {
  /** @type {Record<string, unknown>} */
  const body = {
    messages: messagesOf(exchanges, parameters.system),
    stream: true,
    stream_options: { include_usage: true },
  };
  if (model !== null) body.model = model;
  for (const name of NUMBERS) {
    if (parameters[name].trim() !== "") body[name] = Number(parameters[name]);
  }
  const stop = stopStrings(parameters.stop);
  if (stop.length > 0) body.stop = stop;
  if (parameters.logprobs) Object.assign(body, { logprobs: true, top_logprobs: TOP_LOGPROBS });
  return body;
}

/**
 * @param {Exchange[]} exchanges
 * @param {string} system
 * @returns {{role: string, content: string}[]}
 */
export function messagesOf(exchanges, system) {
  const messages = system.trim() === "" ? [] : [{ role: "system", content: system }];
  const last = exchanges.at(-1);
  for (const { prompt, answer } of exchanges.slice(0, -1)) {
    // Many templates insist that roles alternate: a question that got no answer is left out.
    if (answer === "") continue;
    messages.push({ role: "user", content: prompt }, { role: "assistant", content: answer });
  }
  if (last) messages.push({ role: "user", content: last.prompt });
  return messages;
}

/**
 * @param {string} text
 * @returns {string[]}
 */
export function stopStrings(text) {
  return text
    .split(/\r?\n/)
    .filter((line) => line !== "")
    .map((line) => line.replaceAll("\\n", "\n"));
}
