/** Puts pixels, one a cell, onto the map's canvas as squares with gaps between them. */

import { cornerOf } from "./map_layout.js";
import { cssOf, unpacked } from "./palette.js";

const LEAST_PITCH_OF_MARK = 6;

/**
 * The whole grid is one small image scaled up, and the gaps one pattern over it: the cost of a
 * full picture hardly depends on the number of cells. Few changed cells are painted one by one.
 */
export class MapPainter {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.small = document.createElement("canvas");
    this.smallContext = this.small.getContext("2d");
    this.tile = document.createElement("canvas");
  }

  /**
   * @param {import("./map_layout.js").Layout} layout
   * @param {import("./palette.js").Rgb} surface what shows between the cells
   */
  arrange(layout, surface) {
    this.layout = layout;
    this.surface = cssOf(surface);
    this.canvas.width = layout.width;
    this.canvas.height = layout.height;
    this.small.width = layout.columns;
    this.small.height = layout.rows;
    this.image = this.smallContext.createImageData(layout.columns, layout.rows);
    /** One pixel a cell, to be written by the caller. */
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.#cutTile();
    // Also where the last row has no cells, which no picture paints over.
    this.context.fillStyle = this.surface;
    this.context.fillRect(0, 0, layout.width, layout.height);
  }

  /** Everything that is not the cell's rounded square, in the surface's colour. */
  #cutTile() {
    const { pitch, gap } = this.layout;
    this.tile.width = pitch;
    this.tile.height = pitch;
    const context = this.tile.getContext("2d");
    context.fillStyle = this.surface;
    context.fillRect(0, 0, pitch, pitch);
    context.globalCompositeOperation = "destination-out";
    const side = pitch - gap;
    context.beginPath();
    context.roundRect(0, 0, side, side, side >= 8 ? side * 0.16 : 0);
    context.fill();
    this.pattern = this.context.createPattern(this.tile, "repeat");
  }

  /**
   * @param {(index: number) => number} markOf packed colour of a cell's mark, 0 for none
   * @param {number} numCells
   */
  paintAll(markOf, numCells) {
    const { context, layout } = this;
    this.smallContext.putImageData(this.image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.small, 0, 0, layout.width, layout.height);
    if (layout.gap > 0) {
      context.fillStyle = this.pattern;
      context.fillRect(0, 0, layout.width, layout.height);
    }
    if (layout.pitch < LEAST_PITCH_OF_MARK) return;
    for (let index = 0; index < numCells; index += 1) this.#paintMark(index, markOf(index));
  }

  /**
   * @param {Iterable<number>} indices
   * @param {(index: number) => number} markOf
   */
  paintCells(indices, markOf) {
    const { context, layout, pixels } = this;
    for (const index of indices) {
      const { x, y } = cornerOf(layout, index);
      context.fillStyle = cssOf(unpacked(pixels[index]));
      context.fillRect(x, y, layout.pitch, layout.pitch);
      if (layout.gap > 0) context.drawImage(this.tile, x, y);
      if (layout.pitch >= LEAST_PITCH_OF_MARK) this.#paintMark(index, markOf(index));
    }
  }

  #paintMark(index, pixel) {
    if (pixel === 0) return;
    const { pitch, gap } = this.layout;
    const { x, y } = cornerOf(this.layout, index);
    const side = pitch - gap;
    const size = Math.max(2, Math.round(side * 0.36));
    const inset = Math.floor((side - size) / 2);
    this.context.fillStyle = cssOf(unpacked(pixel));
    this.context.fillRect(x + inset, y + inset, size, size);
  }
}
