/** Where a popover goes: above its anchor, so that the reader's way down the text stays free. */

/** @typedef {{left: number, top: number, right: number, bottom: number}} Box in CSS pixels */
/** @typedef {{width: number, height: number}} Size in CSS pixels */

/**
 * @param {Box} anchor
 * @param {Size} size of the popover
 * @param {Size} viewport
 * @param {number} gap to the anchor and to the edges
 * @returns {{left: number, top: number}}
 */
export function placed(anchor, size, viewport, gap) {
  const centre = (anchor.left + anchor.right) / 2;
  const above = anchor.top - gap - size.height;
  const below = anchor.bottom + gap;
  const fitsBelow = below + size.height + gap <= viewport.height;
  const top = above >= gap || !fitsBelow ? above : below;
  return {
    left: within(centre - size.width / 2, gap, viewport.width - size.width - gap),
    top: within(top, gap, viewport.height - size.height - gap),
  };
}

/**
 * @param {number} x
 * @param {number} least wins where the two cross
 * @param {number} most
 */
function within(x, least, most) {
  return Math.max(least, Math.min(x, most));
}
