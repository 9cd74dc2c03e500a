/** What the bar at the top says: which model, and how things stand. */

/** @param {string} name */
export function showModel(name) {
  document.getElementById("model").textContent = name;
}

/**
 * @param {"ok" | "busy" | "trouble"} state
 * @param {string} text
 */
export function showStatus(state, text) {
  const status = document.getElementById("status");
  status.dataset.state = state;
  // Written again, the same text would be read out again.
  if (status.textContent !== text) status.textContent = text;
}
