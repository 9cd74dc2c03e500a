/**
 * Text of a node, written only when it is another one: an equal text would cost layout, and
 * be read out again.
 *
 * @param {Node} node
 * @param {string} text
 */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
