/** The API key: kept in the tab, asked for in a dialog. */

import { element } from "./element.js";
import { recall, remember } from "./tab_storage.js";

const NAME = "octavo.key";
const UNASKED = "Sent with every request. An admin key lets the dashboard show the text of blocks.";

/** @type {Promise<string | null> | null} */
let open = null;

/** @returns {string | null} */
export function keptKey() {
  return recall(NAME);
}

/** @param {string} key */
export function keepKey(key) {
  remember(NAME, key);
}

export function forgetKey() {
  remember(NAME, null);
}

/**
 * Asks the reader for a key, in one dialog however many ask at once.
 *
 * @param {string} message why it is needed
 * @returns {Promise<string | null>} null: cancelled. The caller keeps the key.
 */
export function askForKey(message) {
  open ??= openDialog(message, false).then(({ key }) => key);
  const answer = open;
  answer.finally(() => {
    open = null;
  });
  return answer;
}

/**
 * Makes the button open the dialog, to give, change or forget the key. A server that asks for none
 * may still have an admin key.
 *
 * @param {HTMLButtonElement} button
 * @param {() => void} [changed] called after a key was changed or forgotten
 */
export function wireKeyButton(button, changed = () => {}) {
  button.addEventListener("click", async () => {
    if (open) return;
    const kept = keptKey() !== null;
    const asked = openDialog(kept ? "Change the key, or forget it." : UNASKED, kept);
    open = asked.then(({ key }) => key);
    const { key, forget } = await asked;
    open = null;
    if (forget) forgetKey();
    else if (key !== null) keepKey(key);
    if (forget || key !== null) changed();
  });
}

/**
 * @param {string} message
 * @param {boolean} canForget
 * @returns {Promise<{key: string | null, forget: boolean}>}
 */
function openDialog(message, canForget) {
  const input = element("input", {
    id: "key-input",
    type: "password",
    autocomplete: "off",
    required: true,
  });
  const cancel = element("button", { type: "button", className: "quiet" }, "Cancel");
  const forget = element("button", { type: "button", hidden: !canForget }, "Forget");
  const use = element("button", { type: "submit", className: "primary" }, "Use");
  const form = element(
    "form",
    {},
    element("h2", { id: "key-title" }, "API key"),
    element("p", { hidden: message === "" }, message),
    element("label", { htmlFor: "key-input" }, "Key"),
    input,
    element("p", { className: "muted" }, "It stays in this tab and goes when the tab closes."),
    element("div", { className: "dialog-buttons" }, cancel, forget, use),
  );
  const dialog = element("dialog", { id: "key-dialog", className: "key-dialog" }, form);
  dialog.setAttribute("aria-labelledby", "key-title");
  document.body.append(dialog);
  return new Promise((resolve) => {
    const result = { key: /** @type {string | null} */ (null), forget: false };
    cancel.addEventListener("click", () => dialog.close());
    forget.addEventListener("click", () => {
      result.forget = true;
      dialog.close();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      result.key = input.value.trim() || null;
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    dialog.showModal();
    input.focus();
  });
}
