/** The chat page: puts its parts together. */

import { showStatus } from "../shared/header.js";
import { wireKeyButton } from "../shared/key.js";
import { recallJson, remember } from "../shared/tab_storage.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { fillEmptyState } from "./empty_state.js";
import { followEnd } from "./follow.js";
import { Inspector } from "./inspector.js";
import { Models } from "./models.js";
import { ParameterForm } from "./parameters.js";
import { wireTokens } from "./token_walk.js";

const KEPT = "octavo.conversation";

const empty = document.getElementById("empty");
const talk = document.getElementById("talk");
const parameters = new ParameterForm();
const models = new Models();
const inspector = new Inspector();
const composer = new Composer({ send, stop: () => conversation.stop() });
const conversation = new Conversation(
  parameters,
  models,
  (isAnswering) => {
    composer.isAnswering = isAnswering;
  },
  startOver,
);
const scroll = followEnd(talk, document.getElementById("talk-content"));

/**
 * @param {string} prompt
 * @returns {boolean} whether it was sent
 */
function send(prompt) {
  if (composer.isAnswering || !parameters.check()) return false;
  empty.hidden = true;
  conversation.ask(prompt);
  scroll.toEnd();
  return true;
}

/** @param {string} prompt to begin the new chat with */
function startOver(prompt) {
  inspector.hide();
  conversation.clear();
  empty.hidden = false;
  scroll.toStart();
  composer.prompt = prompt;
  composer.focus();
}

wireKeyButton(document.getElementById("key"), () => models.load());
wireTokens(document.getElementById("conversation"), inspector);
fillEmptyState(empty, send);
document.getElementById("new-chat").addEventListener("click", () => startOver(""));
document.addEventListener("keydown", (event) => {
  // In a dialog the key closes the dialog.
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (inspector.token) inspector.hide();
  else conversation.stop();
});

// The dashboard is one click away, and so is the way back.
window.addEventListener("pagehide", () => {
  const { exchanges } = conversation;
  remember(KEPT, exchanges.length > 0 ? JSON.stringify(exchanges) : null);
});
const kept = readKept();
conversation.restore(kept);
empty.hidden = kept.length > 0;
if (kept.length > 0) scroll.toEnd();

/** @returns {import("./request_body.js").Exchange[]} none where what was kept cannot be read */
function readKept() {
  const read = recallJson(KEPT);
  if (!Array.isArray(read)) return [];
  return read.filter((kept) => typeof kept?.prompt === "string" && typeof kept.answer === "string");
}

showStatus("busy", "connecting");
composer.focus();
models.load();
