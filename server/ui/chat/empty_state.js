/** What the page says before the first message. */

import { element } from "../shared/element.js";

const EXAMPLES = [
  "Why is the sky blue?",
  "Name three colours, one a line.",
  "Write a short story about a lighthouse keeper.",
];

/**
 * @param {HTMLElement} root
 * @param {(prompt: string) => void} ask
 */
export function fillEmptyState(root, ask) {
  const base = new URL("v1", document.baseURI).href;
  root.replaceChildren(
    element("h2", {}, "Ask the model something"),
    element(
      "p",
      { className: "muted" },
      "It answers here as its tokens come. Shading shows where it was unsure; ",
      "point at a token, or walk there with the arrow keys, to see what else it might have said.",
    ),
    element(
      "ul",
      { className: "examples" },
      ...EXAMPLES.map((prompt) => {
        const button = element("button", { type: "button" }, prompt);
        button.addEventListener("click", () => ask(prompt));
        return element("li", {}, button);
      }),
    ),
    element("h2", {}, "From a program"),
    element(
      "p",
      { className: "muted" },
      "OpenAI’s clients work with the base URL ",
      element("code", {}, base),
      ". In a shell:",
    ),
    element("pre", { className: "command" }, element("code", {}, curl(base))),
  );
}

/** @param {string} base */
function curl(base) {
  const body = JSON.stringify({ messages: [{ role: "user", content: EXAMPLES[0] }] });
  return [
    "curl -H 'Content-Type: application/json'",
    `-d '${body}'`,
    `${base}/chat/completions`,
  ].join(" \\\n  ");
}
