/** Ways to look at a token: pointing at it, a click or tap, and the arrow keys. */

/** Long enough to move the pointer from a token onto the inspector. */
const LEAVE_MS = 200;

/**
 * @param {HTMLElement} list that holds the answers
 * @param {import("./inspector.js").Inspector} inspector
 */
export function wireTokens(list, inspector) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let leaving;
  const stay = () => clearTimeout(leaving);
  const leave = () => {
    stay();
    if (!inspector.isPinned) leaving = setTimeout(() => inspector.hide(), LEAVE_MS);
  };
  /** @param {HTMLElement} token @param {boolean} pins */
  const look = (token, pins) => {
    stay();
    inspector.show(token, pins);
  };

  list.addEventListener("pointerover", (event) => {
    const token = tokenAt(event.target);
    // A finger has no hover, and one who drags is selecting text.
    if (event.pointerType !== "mouse" || event.buttons !== 0 || inspector.isPinned) return;
    if (token) look(token, false);
    else leave();
  });
  list.addEventListener("pointerleave", leave);
  inspector.root.addEventListener("pointerenter", stay);
  inspector.root.addEventListener("pointerleave", leave);

  document.addEventListener("click", ({ target }) => {
    const token = tokenAt(target);
    if (token && list.contains(token)) {
      look(token, true);
    } else if (!inspector.root.contains(/** @type {Node} */ (target))) {
      inspector.hide();
    }
  });

  list.addEventListener("keydown", (event) => {
    const text = /** @type {HTMLElement} */ (event.target);
    if (!text.matches(".text") || event.altKey || event.ctrlKey || event.metaKey) return;
    const token = step(event.key, text, inspector.token);
    if (!token) return;
    event.preventDefault();
    token.scrollIntoView({ block: "nearest" });
    look(token, true);
  });
  list.addEventListener("focusout", ({ relatedTarget }) => {
    if (inspector.root.contains(/** @type {Node | null} */ (relatedTarget))) return;
    inspector.hide();
  });
}

/**
 * @param {EventTarget | null} target
 * @returns {HTMLElement | null}
 */
function tokenAt(target) {
  return target instanceof Element ? target.closest(".token") : null;
}

/**
 * @param {string} key
 * @param {HTMLElement} text
 * @param {HTMLElement | null} current
 * @returns {HTMLElement | null | undefined} where the key leads
 */
function step(key, text, current) {
  const tokens = /** @type {HTMLCollectionOf<HTMLElement>} */ (
    text.getElementsByClassName("token")
  );
  const first = tokens[0];
  const last = tokens[tokens.length - 1];
  const from = current && text.contains(current) ? current : null;
  switch (key) {
    case "ArrowRight":
      return from ? neighbour(from, "nextElementSibling") ?? from : first;
    case "ArrowLeft":
      return from ? neighbour(from, "previousElementSibling") ?? from : last;
    case "Home":
      return first;
    case "End":
      return last;
    default:
      return null;
  }
}

/**
 * @param {HTMLElement} token
 * @param {"nextElementSibling" | "previousElementSibling"} way
 */
function neighbour(token, way) {
  return /** @type {HTMLElement | null} */ (token[way]);
}
