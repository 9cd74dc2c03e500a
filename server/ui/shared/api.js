/** Requests to this server, with the API key, and its errors as one kind of exception. */

import { askForKey, keepKey, keptKey } from "./key.js";

/** What the server, or the way to it, refused. `message` is a sentence for the reader. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status the HTTP status; 0 when the server was not reached
   * @param {{retryAfterS?: number | null, param?: string | null}} [more]
   *   seconds after which to try again, the request's field that is wrong
   */
  constructor(message, status, { retryAfterS = null, param = null } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.retryAfterS = retryAfterS;
    this.param = param;
  }
}

/** A request as the pages make it, asking for a key by the dialog. */
export const request = requestWith(askForKey);

/**
 * @typedef {{method?: string, body?: unknown, signal?: AbortSignal}} Options
 *   `body` is sent as JSON
 */

/**
 * @param {(message: string) => Promise<string | null>} ask asks the reader for a key
 * @returns {(path: string, options?: Options) => Promise<Response>} resolves to an ok response;
 *   throws ApiError, or the signal's reason where it was aborted
 */
export function requestWith(ask) {
  return async (path, { method = "GET", body, signal } = {}) => {
    for (;;) {
      const key = keptKey();
      const response = await send(path, key, { method, body, signal });
      if (response.ok) return response;
      if (response.status !== 401) throw await errorOf(response);
      // Another request may have been given a key while this one was on its way.
      if (keptKey() === key && !(await keepNewKey(ask, key, signal))) {
        throw await errorOf(response);
      }
    }
  };
}

/**
 * @param {(message: string) => Promise<string | null>} ask
 * @param {string | null} refused
 * @param {AbortSignal} [signal]
 * @returns {Promise<boolean>} whether there is a key to try
 */
async function keepNewKey(ask, refused, signal) {
  const key = await ask(
    refused === null ? "This server asks for an API key." : "The server did not accept this key.",
  );
  signal?.throwIfAborted();
  if (key === null) return false;
  keepKey(key);
  return true;
}

/**
 * @param {string} path
 * @param {string | null} key
 * @param {Options} options
 * @returns {Promise<Response>}
 */
async function send(path, key, { method, body, signal }) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("The server cannot be reached.", 0);
  }
}

/**
 * @param {Response} response one that is not ok
 * @returns {Promise<ApiError>}
 */
async function errorOf(response) {
  const { status } = response;
  const retryAfter = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const error = await response
    .json()
    .then((body) => body?.error ?? {})
    .catch(() => ({}));
  const message = typeof error.message === "string" ? error.message : sentence(status);
  return new ApiError(message, status, {
    retryAfterS: Number.isFinite(retryAfter) ? retryAfter : null,
    param: typeof error.param === "string" ? error.param : null,
  });
}

/** @param {number} status */
function sentence(status) {
  if (status === 401) return "The server asks for an API key.";
  if (status === 404) return "The server does not know this address.";
  if (status === 429) return "The server has too many requests at the moment.";
  if (status === 503) return "The server cannot take requests at the moment.";
  return `The server answered with status ${status}.`;
}
