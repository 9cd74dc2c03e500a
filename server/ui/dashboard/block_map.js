/** The element `<block-map>`: every KV block as a cell on one canvas. */

import { CellColours } from "./cell_colours.js";
import { applyRuns, stateOf } from "./cells.js";
import { Flashes } from "./flashes.js";
import { layoutOf } from "./map_layout.js";
import { MapCursor } from "./map_cursor.js";
import { MapPainter } from "./map_painter.js";
import { Pace } from "./pace.js";
import { Ring } from "./ring.js";
import { onThemeChange, readTheme } from "./theme.js";

const FREE = 0;
const FLASH_STEP_MS = 120;
const AGE_STEP_MS = 1000;
const MOST_PAINTED_SINGLY = 400;
const MOST_REMEMBERED_SINGLY = 5000;
const FRAMES_KEPT = 600;
/** Of cells of two or three pixels, fewer pictures a second show as much, at a part of the cost. */
const MANY_CELLS = 20000;
const STEP_OF_MANY_MS = 500;

const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Draws only after something changed, at most once an animation frame. Dispatches `point` when
 * the cursor stands on another cell, and `pointed-change` when the cell under it changed.
 */
export class BlockMap extends HTMLElement {
  /** Cell i is block i + 1; see cells.js. */
  cells = new Uint32Array(0);
  /** How long the last picture took, in ms. */
  lastFrameMs = 0;

  #changedAt = new Float32Array(0);
  #flashes = new Flashes();
  #durations = new Ring(FRAMES_KEPT);
  #colourBy = "state";
  #highlighted = 0;
  #dirty = new Set();
  #isAllDirty = true;
  #isScheduled = false;
  #pace = new Pace(() => this.#requestPicture(), 0);
  #timer = 0;

  connectedCallback() {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    this.append(canvas);
    this.#painter = new MapPainter(canvas);
    this.cursor = new MapCursor(this);
    this.#readTheme();
    onThemeChange(() => this.#readTheme());
    this.#observer = new ResizeObserver(() => this.#arrange());
    this.#observer.observe(this);
    setInterval(() => this.#age(), AGE_STEP_MS);
  }

  #painter;
  #observer;
  #theme;
  #colours;

  /** @returns {import("./map_layout.js").Layout} */
  get layout() {
    return this.#painter.layout;
  }

  /** @returns {number[]} durations of the last pictures in ms, oldest first */
  get frameTimes() {
    return this.#durations.toArray();
  }

  /** @returns {"state" | "request" | "age"} */
  get colourBy() {
    return this.#colourBy;
  }

  set colourBy(mode) {
    this.#colourBy = mode;
    this.#renewColours();
  }

  /** @returns {number} the request whose cells stand out, 0 for none */
  get highlighted() {
    return this.#highlighted;
  }

  set highlighted(owner) {
    if (owner === this.#highlighted) return;
    this.#highlighted = owner;
    this.#renewColours();
  }

  /**
   * Begin anew with free cells; the same number of cells stay as they are, with their ages.
   *
   * @param {number} numBlocks
   */
  reset(numBlocks) {
    if (numBlocks === this.cells.length) return;
    this.cells = new Uint32Array(numBlocks);
    this.#changedAt = new Float32Array(numBlocks).fill(performance.now() / 1000);
    this.#flashes.clear();
    const stepMs = numBlocks > MANY_CELLS ? STEP_OF_MANY_MS : 0;
    this.#pace = new Pace(() => this.#requestPicture(), stepMs);
    this.cursor.move(null);
    this.setAttribute("aria-valuemin", "1");
    this.setAttribute("aria-valuemax", String(numBlocks));
    this.#arrange();
  }

  /**
   * @param {{runs: number[], full: boolean}} frame
   * @throws {RangeError} when its runs are malformed
   */
  applyFrame(frame) {
    const now = performance.now();
    const changed = applyRuns(this.cells, frame.runs);
    for (const index of changed) this.#changedAt[index] = now / 1000;
    // A full frame is where watching begins, not a movement.
    if (!frame.full && !stillness.matches) this.#flashes.add(changed, now);
    this.#markDirty(changed);
    const pointed = this.cursor.index;
    if (pointed !== null && changed.includes(pointed)) this.cursor.announce("pointed-change");
  }

  /**
   * @param {number} index of a cell
   * @returns {number} seconds since it changed while this page watched
   */
  ageOf(index) {
    return performance.now() / 1000 - this.#changedAt[index];
  }

  #readTheme() {
    this.#theme = readTheme();
    this.#renewColours();
    this.#arrange();
  }

  #renewColours() {
    this.#colours = new CellColours(this.#theme, this.#colourBy, this.#highlighted);
    this.#markAllDirty();
  }

  #arrange() {
    if (this.cells.length === 0 || this.clientWidth === 0) return;
    const layout = layoutOf({
      numCells: this.cells.length,
      width: this.clientWidth,
      ratio: devicePixelRatio,
    });
    this.#painter.arrange(layout, this.#theme.surface);
    const { style } = this.#painter.canvas;
    style.width = `${layout.width / devicePixelRatio}px`;
    style.height = `${layout.height / devicePixelRatio}px`;
    this.cursor.place();
    this.#markAllDirty();
  }

  #age() {
    if (this.#colourBy !== "age" || this.layout === undefined) return;
    const nowMs = performance.now();
    const { pixels } = this.#painter;
    // The older a cell is, the longer it keeps its colour: most seconds change few, or none.
    const paler = [];
    for (let index = 0; index < this.cells.length; index += 1) {
      if (stateOf(this.cells[index]) === FREE) continue;
      if (this.#pixelOf(index, nowMs) !== pixels[index]) paler.push(index);
    }
    this.#markDirty(paler);
  }

  #markAllDirty() {
    this.#isAllDirty = true;
    this.#schedule();
  }

  #markDirty(indices) {
    if (indices.length === 0) return;
    if (this.#dirty.size + indices.length > MOST_REMEMBERED_SINGLY) this.#isAllDirty = true;
    else for (const index of indices) this.#dirty.add(index);
    this.#schedule();
  }

  #schedule() {
    this.#pace.ask();
  }

  #requestPicture() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      this.#draw();
    });
  }

  #draw() {
    if (this.cells.length === 0) return;
    const began = performance.now();
    for (const index of this.#flashes.cells()) this.#dirty.add(index);
    this.#flashes.expire(began);
    const markOf = (index) => this.#colours.markOf(this.cells[index]);
    if (this.#isAllDirty) {
      for (let index = 0; index < this.cells.length; index += 1) this.#colour(index, began);
    } else {
      for (const index of this.#dirty) this.#colour(index, began);
    }
    if (this.#isAllDirty || this.#dirty.size > MOST_PAINTED_SINGLY) {
      this.#painter.paintAll(markOf, this.cells.length);
    } else {
      this.#painter.paintCells(this.#dirty, markOf);
    }
    this.#dirty.clear();
    this.#isAllDirty = false;
    this.lastFrameMs = performance.now() - began;
    this.#durations.push(this.lastFrameMs);
    this.#continueFlashes();
  }

  #pixelOf(index, nowMs) {
    const ageS = nowMs / 1000 - this.#changedAt[index];
    return this.#colours.pixelOf(this.cells[index], ageS);
  }

  #colour(index, nowMs) {
    const pixel = this.#pixelOf(index, nowMs);
    const strength = this.#flashes.size === 0 ? 0 : this.#flashes.strength(index, nowMs);
    this.#painter.pixels[index] =
      strength === 0 ? pixel : this.#colours.flashed(pixel, strength);
  }

  #continueFlashes() {
    // While frames arrive they carry the flashes along; the timer is for when none does.
    clearTimeout(this.#timer);
    if (this.#flashes.size === 0) return;
    this.#timer = setTimeout(() => this.#schedule(), FLASH_STEP_MS);
  }
}

customElements.define("block-map", BlockMap);
