/** The row of figures with their ten-minute lines, and one moment in time shared by all. */

import { element } from "../shared/element.js";
import { age } from "./age.js";
import { FIGURES } from "./figure_list.js";
import { History } from "./history.js";
import { areaPath, linePath, scaleMax } from "./sparkline.js";
import { write } from "./write.js";

const SPAN_S = 600;
const WIDTH = 300;
const HEIGHT = 40;
/** A figure older than this says how old it is. */
const FRESH_S = 2.5;
/** Less than a pixel of most lines; to draw them is most of what a sample costs. */
const LINE_STEP_S = 2;

/** All figures of the page. */
export class Figures {
  #history = new History(["at"]);
  #limits = null;
  #live = new Map();
  /** Seconds before the last sample that the reader looks at; null is now. */
  #ageS = null;
  #drawnToS = -Infinity;

  /**
   * @param {HTMLElement} list
   * @param {HTMLInputElement} slider seconds from now, zero or less
   * @param {HTMLElement} label says which moment the figures show
   */
  constructor(list, slider, label) {
    this.slider = slider;
    this.label = label;
    this.views = FIGURES.map((figure) => viewOf(figure));
    list.append(...this.views.map((view) => view.root));
    for (const view of this.views) this.#followPointer(view);
    slider.addEventListener("input", () => this.#look(-Number(slider.value) || null));
  }

  /**
   * @param {History} history
   * @param {import("./figure_list.js").Limits} limits
   */
  begin(history, limits) {
    this.#history = history;
    this.#limits = limits;
    this.#live.clear();
    this.#drawnToS = -Infinity;
    this.render();
  }

  /**
   * What a frame knows sooner than the next sample.
   *
   * @param {Record<string, number>} values by the samples' columns
   */
  setLive(values) {
    for (const [column, value] of Object.entries(values)) this.#live.set(column, value);
    this.#write();
  }

  /** Draw the lines and write the figures; after each sample. */
  render() {
    const { now } = this.#history;
    // The server's clock may have been set back.
    if (Math.abs(now - this.#drawnToS) >= LINE_STEP_S) {
      this.#drawnToS = now;
      for (const view of this.views) this.#draw(view);
    }
    this.#write();
  }

  #draw({ figure, area, first, second }) {
    const times = this.#history.times;
    const values = this.#history.column(figure.column);
    const others = figure.secondColumn ? this.#history.column(figure.secondColumn) : [];
    const frame = {
      from: this.#history.now - SPAN_S,
      to: this.#history.now,
      width: WIDTH,
      height: HEIGHT,
      max: figure.least === 1 ? 1 : scaleMax([values, others], figure.least),
    };
    area?.setAttribute("d", areaPath(times, values, frame));
    first.setAttribute("d", linePath(times, values, frame));
    if (second) second.setAttribute("d", linePath(times, others, frame));
  }

  #write() {
    const place = this.#ageS === null ? null : this.#history.placeAt(this.#ageS);
    for (const view of this.views) {
      const { figure } = view;
      const main = this.#valueOf(figure.column, place);
      write(view.number, figure.format(main?.value));
      write(view.ageText, main && main.ageS > FRESH_S ? `${age(main.ageS)} ago` : "");
      if (figure.secondColumn) {
        write(view.note, figure.format(this.#valueOf(figure.secondColumn, place)?.value));
      } else if (this.#limits !== null) {
        write(view.note, figure.note(this.#limits));
      }
      this.#placeCursor(view);
    }
  }

  #placeCursor({ cursor }) {
    const transform = cursorAt(this.#ageS);
    if (cursor.getAttribute("transform") !== transform) cursor.setAttribute("transform", transform);
  }

  #valueOf(column, place) {
    if (this.#ageS !== null) return { value: this.#history.column(column)[place], ageS: 0 };
    if (this.#live.has(column)) return { value: this.#live.get(column), ageS: 0 };
    return this.#history.latest(column);
  }

  #followPointer({ svg }) {
    const follow = (event) => {
      const box = svg.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      this.#look(SPAN_S * (1 - Math.min(1, Math.max(0, share))));
    };
    svg.addEventListener("pointermove", follow);
    svg.addEventListener("pointerdown", follow);
    svg.addEventListener("pointerleave", () => this.#look(null));
  }

  #look(ageS) {
    this.#ageS = ageS;
    const text = ageS === null ? "now" : `${age(ageS)} ago`;
    this.slider.value = String(-Math.round(ageS ?? 0));
    this.slider.setAttribute("aria-valuetext", text);
    write(this.label, text);
    this.#write();
  }
}

/** @param {number | null} ageS null: out of sight */
function cursorAt(ageS) {
  const x = ageS === null ? -10 : WIDTH * (1 - ageS / SPAN_S);
  return `translate(${x.toFixed(1)} 0)`;
}

function viewOf(figure) {
  const label = element("h3", {}, figure.label);
  const ageText = element("span", { className: "age number" });
  const number = element("span", { className: "number" }, "–");
  const note = element("span", { className: figure.secondColumn ? "number" : "" });
  const noteLine = element("p", { className: "note" });
  if (figure.secondLabel) noteLine.append(`${figure.secondLabel} `);
  noteLine.append(note);
  const area = figure.isFilled ? svgNode("path", { class: "area" }) : null;
  const first = svgNode("path", { class: "line" });
  const second = figure.secondColumn ? svgNode("path", { class: "line second" }) : null;
  const transform = cursorAt(null);
  const cursor = svgNode("line", { class: "cursor", y1: -2, y2: HEIGHT + 2, transform });
  const viewBox = `0 -2 ${WIDTH} ${HEIGHT + 4}`;
  const svg = svgNode("svg", { viewBox, preserveAspectRatio: "none" });
  svg.setAttribute("aria-hidden", "true");
  svg.append(...[area, second, first, cursor].filter((node) => node !== null));
  const head = element("div", { className: "figure-head" }, label, ageText);
  const root = element("li", { className: "figure" });
  root.dataset.name = figure.name;
  const value = element("p", { className: "figure-value" }, number);
  root.append(head, value, noteLine, svg);
  return { figure, root, number, note, ageText, svg, area, first, second, cursor };
}

function svgNode(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  return node;
}
