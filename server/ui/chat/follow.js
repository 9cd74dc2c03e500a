/** Keeps the end of a growing list in sight, for as long as the reader stays there. */

const NEAR_PX = 32;

/**
 * @param {HTMLElement} scroller
 * @param {HTMLElement} content
 * @returns {{toEnd: () => void, toStart: () => void}} from the end it follows, from the start not
 */
export function followEnd(scroller, content) {
  let isFollowing = false;
  let lastTop = 0;
  const toEnd = () => {
    scroller.scrollTop = scroller.scrollHeight;
  };
  scroller.addEventListener("scroll", () => {
    const { scrollTop, clientHeight, scrollHeight } = scroller;
    const belowPx = scrollHeight - scrollTop - clientHeight;
    // Only going up is a wish to leave: the text also grows away from a reader who stays, and text
    // that shrinks moves the end itself up.
    if (scrollTop < lastTop && belowPx > 1) isFollowing = false;
    else if (scrollTop > lastTop && belowPx < NEAR_PX) isFollowing = true;
    lastTop = scrollTop;
  });
  const observer = new ResizeObserver(() => {
    if (isFollowing) toEnd();
  });
  observer.observe(scroller);
  observer.observe(content);
  return {
    toEnd: () => {
      isFollowing = true;
      toEnd();
    },
    toStart: () => {
      isFollowing = false;
      scroller.scrollTop = 0;
    },
  };
}
