/** The cell the reader looks at: moved by pointer or keys, outlined, told to screen readers. */

import { cellAt, cornerOf, moveCursor } from "./map_layout.js";

/** One cursor of one block map. */
export class MapCursor {
  /** @type {number | null} the cell it stands on */
  index = null;
  #isByKeys = false;
  /** Says in words what a cell holds; the page sets it. @type {(index: number) => string} */
  describe = (index) => `Block ${index + 1}`;

  /** @param {import("./block_map.js").BlockMap} map */
  constructor(map) {
    this.map = map;
    this.outline = document.createElement("div");
    this.outline.className = "map-cursor";
    this.outline.hidden = true;
    map.append(this.outline);
    map.addEventListener("pointermove", (event) => this.#follow(event));
    map.addEventListener("pointerdown", (event) => this.#follow(event));
    map.addEventListener("keydown", (event) => this.#onKey(event));
    map.addEventListener("focus", () => {
      if (this.index === null && map.cells.length > 0) this.move(0);
    });
  }

  /** @param {number | null} index of a cell; null takes the cursor away */
  move(index) {
    if (index === this.index) return;
    this.index = index;
    this.place();
    this.announce("point");
  }

  /** Tell the page and screen readers of the cell under the cursor. @param {string} type */
  announce(type) {
    if (this.index !== null) {
      this.map.setAttribute("aria-valuenow", String(this.index + 1));
      this.map.setAttribute("aria-valuetext", this.describe(this.index));
    } else {
      this.map.setAttribute("aria-valuenow", "1");
      this.map.setAttribute("aria-valuetext", "No block chosen");
    }
    this.map.dispatchEvent(new CustomEvent(type, { detail: { index: this.index } }));
  }

  /** Put the outline where the cell is in the present layout. */
  place() {
    const { layout } = this.map;
    this.outline.hidden = this.index === null || layout === undefined;
    if (this.outline.hidden) return;
    const { x, y } = cornerOf(layout, this.index);
    const side = layout.pitch - layout.gap;
    const { style } = this.outline;
    style.transform = `translate(${x / devicePixelRatio}px, ${y / devicePixelRatio}px)`;
    style.width = `${side / devicePixelRatio}px`;
    style.height = `${side / devicePixelRatio}px`;
  }

  /** Scroll to the cell that keys chose: a map of very many blocks is taller than the window. */
  keepInSight() {
    if (this.#isByKeys && this.index !== null) this.outline.scrollIntoView({ block: "nearest" });
  }

  #follow(event) {
    const { layout } = this.map;
    if (layout === undefined) return;
    this.#isByKeys = false;
    const box = this.map.getBoundingClientRect();
    const x = (event.clientX - box.left) * devicePixelRatio;
    const y = (event.clientY - box.top) * devicePixelRatio;
    const index = cellAt(layout, this.map.cells.length, x, y);
    if (index !== null) this.move(index);
  }

  #onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape") {
      this.move(null);
      return;
    }
    const { layout, cells } = this.map;
    const index = moveCursor(layout.columns, cells.length, this.index, event.key);
    if (index === null) return;
    event.preventDefault();
    this.#isByKeys = true;
    this.move(index);
    this.keepInSight();
  }
}
