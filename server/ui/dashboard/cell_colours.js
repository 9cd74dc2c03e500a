/** Which colour a cell has: by its state, by the request that holds it, or by its age. */

import { ownerOf, stateOf } from "./cells.js";
import { mix, ownerColour, packed, palestShare, unpacked } from "./palette.js";

const FREE = 0;
const CACHED = 1;
const SHARED = 3;
const OLDEST_S = 600;
/** What age leaves of the contrast to free cells; that of the two to each other is 1.3 or more. */
const LEAST_OF_CACHED = 1.4;
const LEAST_OF_HELD = 1.9;
const DIMMED = 0.78;
const GLOW = 0.8;
/** By request, hues belong to requests: the share of free in cached cells. As in block_map.css. */
const CACHED_BY_REQUEST = 0.4;

/**
 * @typedef {object} Theme colours as Rgb
 * @property {import("./palette.js").Rgb} surface what lies under the cells
 * @property {import("./palette.js").Rgb} ink
 * @property {import("./palette.js").Rgb} free
 * @property {import("./palette.js").Rgb} cached
 * @property {import("./palette.js").Rgb} used
 * @property {import("./palette.js").Rgb} shared
 * @property {boolean} isDark
 */

/** Answers colours as packed pixels, quickly enough for every cell of a large map. */
export class CellColours {
  /**
   * @param {Theme} theme
   * @param {"state" | "request" | "age"} colourBy
   * @param {number} [highlighted] request whose cells keep their colour while others are dimmed
   */
  constructor(theme, colourBy, highlighted = 0) {
    this.theme = theme;
    this.colourBy = colourBy;
    this.highlighted = highlighted;
    const { free, used, shared } = theme;
    const cached =
      colourBy === "request" ? mix(theme.cached, free, CACHED_BY_REQUEST) : theme.cached;
    this.byState = Uint32Array.from([free, cached, used, shared].map(packed));
    this.dimByState = this.byState.map((pixel) => this.#dimmed(pixel));
    if (colourBy === "age") {
      this.heldByAge = agesOf(used, free, LEAST_OF_HELD);
      this.cachedByAge = agesOf(cached, free, LEAST_OF_CACHED);
    }
    this.byOwner = new Map();
    this.lightest = theme.isDark ? theme.ink : theme.surface;
  }

  /**
   * @param {number} value of the cell
   * @param {number} ageS seconds since the cell changed
   * @returns {number} packed pixel
   */
  pixelOf(value, ageS) {
    const state = stateOf(value);
    const owner = ownerOf(value);
    const isDimmed = this.highlighted !== 0 && owner !== this.highlighted;
    if (this.colourBy === "age" && state !== FREE) {
      const ages = state === CACHED ? this.cachedByAge : this.heldByAge;
      const pixel = ages[Math.min(OLDEST_S, Math.max(0, Math.floor(ageS)))];
      return isDimmed ? this.#dimmed(pixel) : pixel;
    }
    if (this.colourBy === "request" && owner !== 0) {
      const { plain, shared, dim } = this.#ownersPixels(owner);
      if (isDimmed) return dim;
      return state === SHARED ? shared : plain;
    }
    return isDimmed ? this.dimByState[state] : this.byState[state];
  }

  /**
   * The mark inside a cell: only by request, where hue no longer tells that a block is shared.
   *
   * @param {number} value of the cell
   * @returns {number} packed pixel, 0 for no mark
   */
  markOf(value) {
    if (this.colourBy !== "request" || stateOf(value) !== SHARED) return 0;
    const owner = ownerOf(value);
    if (this.highlighted !== 0 && owner !== this.highlighted) return 0;
    return this.#ownersPixels(owner).mark;
  }

  /**
   * @param {number} pixel the cell's lasting colour
   * @param {number} strength 1 when it has just changed, 0 when the flash is over
   * @returns {number} packed pixel
   */
  flashed(pixel, strength) {
    return packed(mix(unpacked(pixel), this.lightest, GLOW * strength));
  }

  #ownersPixels(owner) {
    let pixels = this.byOwner.get(owner);
    if (pixels === undefined) {
      const colour = ownerColour(owner, this.theme.isDark);
      pixels = {
        plain: packed(colour),
        shared: packed(mix(colour, this.theme.ink, 0.25)),
        mark: packed(mix(colour, this.theme.surface, 0.75)),
        dim: this.#dimmed(packed(colour)),
      };
      // Owners come and go for as long as the page is open.
      if (this.byOwner.size >= 4096) this.byOwner.clear();
      this.byOwner.set(owner, pixels);
    }
    return pixels;
  }

  #dimmed(pixel) {
    return packed(mix(unpacked(pixel), this.theme.surface, DIMMED));
  }
}

/** One pixel a second of age; the fading is logarithmic, from 1 s to ten minutes. */
function agesOf(colour, free, leastContrast) {
  const faded = palestShare(colour, free, leastContrast);
  return Uint32Array.from({ length: OLDEST_S + 1 }, (_, second) => {
    const share = Math.log(Math.max(1, second)) / Math.log(OLDEST_S);
    return packed(mix(colour, free, faded * share));
  });
}
