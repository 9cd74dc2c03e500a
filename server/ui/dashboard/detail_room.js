/** The detail sticks to the window's lower edge, where it must not cover the block it is about. */

/**
 * Tells the map's styles how tall the detail is, and moves a block chosen by keys out from under
 * it: it grows as the server answers.
 *
 * @param {import("./block_map.js").BlockMap} map
 * @param {HTMLElement} detail
 */
export function keepRoomFor(map, detail) {
  const observer = new ResizeObserver(() => {
    map.style.setProperty("--detail-height", `${detail.offsetHeight}px`);
    map.cursor.keepInSight();
  });
  observer.observe(detail);
}
