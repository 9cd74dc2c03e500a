/** The list of requests: rows made once, then changed in place. */

import { element } from "../shared/element.js";
import { count, seconds } from "../shared/format.js";
import { cssOf, ownerColour } from "./palette.js";
import { publicId, shortId } from "./request_id.js";
import { RequestRows, lifeS, scaleS, segmentsOf } from "./request_rows.js";
import { write } from "./write.js";

const MOST_SHOWN = 40;
const MOST_SHOWN_NARROW = 12;
const narrow = matchMedia("(max-width: 1099px)");
const STAGE_WORDS = { queue: "queued", prefill: "prefill", decode: "decode", done: "ended" };

/** Shows the requests of each frame; `onPoint` hears which request the reader points at. */
export class RequestList {
  rows = new RequestRows();
  /** @type {(owner: number) => void} 0: none */
  onPoint = () => {};
  isDark = false;

  #items = new Map();
  #pinned = null;
  #pointed = null;
  #marked = null;

  /**
   * @param {HTMLUListElement} list
   * @param {{more: HTMLElement, empty: HTMLElement}} words said under the list
   */
  constructor(list, words) {
    this.list = list;
    this.words = words;
    list.addEventListener("pointerover", (event) => this.#point(event.target));
    list.addEventListener("pointerleave", () => this.#point(null));
    list.addEventListener("click", (event) => this.#pin(event.target.closest("button")));
  }

  /**
   * Bring the list up to date with the rows.
   *
   * @param {number} numPresent requests in the engine, those beyond the frame's rows too
   */
  render(numPresent) {
    const places = narrow.matches ? MOST_SHOWN_NARROW : MOST_SHOWN;
    this.rows.makeRoom(places);
    const rows = this.rows.all();
    const shown = rows.slice(0, places);
    const scale = scaleS(shown);
    const kept = new Set(shown.map((row) => row.id));
    for (const [id, item] of this.#items) if (!kept.has(id)) this.#remove(id, item);
    shown.forEach((row, place) => {
      const item = this.#items.get(row.id) ?? this.#make(row);
      if (this.list.children[place] !== item.root) {
        this.list.insertBefore(item.root, this.list.children[place] ?? null);
      }
      this.#fill(item, row, scale);
    });
    // A request that waited, or was preempted, has another number now, or is gone.
    this.#tellPointed();
    const numShown = shown.filter((row) => row.stage !== "done").length;
    const numMore = Math.max(0, numPresent - numShown);
    write(this.words.more, numMore > 0 ? `and ${count(numMore)} more` : "");
    this.words.empty.hidden = rows.length > 0;
  }

  /** Mark the row of the request that holds a cell. @param {string | null} id */
  mark(id) {
    if (id === this.#marked) return;
    this.#items.get(this.#marked)?.root.classList.remove("marked");
    this.#marked = id;
    this.#items.get(id)?.root.classList.add("marked");
  }

  /** Colours depend on the theme. @param {boolean} isDark */
  recolour(isDark) {
    this.isDark = isDark;
    for (const item of this.#items.values()) item.owner = null;
  }

  #make(row) {
    const chip = element("span", { className: "chip" });
    const name = element("button", { type: "button", className: "id" }, shortId(row.id));
    name.setAttribute("aria-expanded", "false");
    const stage = element("span", { className: "stage" });
    const life = element("span", { className: "life number" });
    const segments = ["queue", "prefill", "decode"].map((part) => {
      const fill = element("span", { className: "fill" });
      return { fill, root: element("span", { className: `segment ${part}` }, fill) };
    });
    const bar = element("div", { className: "request-bar" }, ...segments.map((part) => part.root));
    bar.setAttribute("role", "img");
    const figures = element("p", { className: "muted number" });
    const times = element("span", { className: "number" });
    const more = element("p", { className: "more", hidden: true }, publicId(row.id), times);
    const head = element("div", { className: "request-head" }, chip, name, stage, life);
    const root = element("li", {}, head, bar, figures, more);
    root.dataset.id = row.id;
    root.classList.toggle("marked", row.id === this.#marked);
    const item = { root, chip, name, stage, life, bar, segments, figures, more, times, row };
    item.owner = null;
    this.#items.set(row.id, item);
    return item;
  }

  #fill(item, row, scale) {
    item.row = row;
    if (item.root.dataset.stage !== row.stage) {
      item.root.dataset.stage = row.stage;
      write(item.stage, STAGE_WORDS[row.stage]);
    }
    if (item.owner !== row.owner) {
      item.owner = row.owner;
      const colour = row.owner === 0 ? "" : cssOf(ownerColour(row.owner, this.isDark));
      item.chip.style.backgroundColor = colour;
    }
    write(item.life, seconds(lifeS(row)));
    segmentsOf(row, scale).forEach(({ length, progress }, i) => {
      const { root, fill } = item.segments[i];
      resize(root, length);
      resize(fill, progress);
    });
    write(item.figures, figuresOf(row));
    const times = timesOf(row);
    if (item.bar.ariaLabel !== times) item.bar.ariaLabel = times;
    write(item.times, times);
  }

  #remove(id, item) {
    item.root.remove();
    this.#items.delete(id);
    if (this.#pinned === id) this.#pinned = null;
    if (this.#pointed === id) this.#pointed = null;
  }

  #pin(button) {
    if (button === null) return;
    const { id } = button.closest("li").dataset;
    const isPinned = this.#pinned === id;
    this.#open(this.#pinned, false);
    this.#pinned = isPinned ? null : id;
    this.#open(this.#pinned, true);
    this.#tellPointed();
  }

  /** Show or hide what there is no room for in every row. */
  #open(id, isOpen) {
    const item = this.#items.get(id);
    if (item === undefined) return;
    item.name.setAttribute("aria-expanded", String(isOpen));
    item.more.hidden = !isOpen;
  }

  #point(target) {
    this.#pointed = target?.closest("li")?.dataset.id ?? null;
    this.#tellPointed();
    const item = this.#items.get(this.#pointed);
    if (item) item.root.title = `${publicId(item.row.id)}: ${timesOf(item.row)}`;
  }

  #tellPointed() {
    this.onPoint(this.#items.get(this.#pointed ?? this.#pinned)?.row.owner ?? 0);
  }
}

/** The figures of one request in words. */
function figuresOf(row) {
  const parts = [`${count(row.prompt_tokens)} prompt`];
  if (row.cached_tokens > 0) parts.push(`${count(row.cached_tokens)} cached`);
  parts.push(`${count(row.output_tokens)} of ${count(row.max_tokens)} generated`);
  parts.push(row.num_blocks === 1 ? "1 block" : `${count(row.num_blocks)} blocks`);
  if (row.preemptions > 0) parts.push(`${count(row.preemptions)} × preempted`);
  return parts.join(" · ");
}

/** What the lengths of its bar stand for. */
function timesOf({ queue_s, prefill_s, decode_s }) {
  return `queue ${seconds(queue_s)}, prefill ${seconds(prefill_s)}, decode ${seconds(decode_s)}`;
}

function resize(node, share) {
  const width = `${(share * 100).toFixed(1)}%`;
  if (node.style.width !== width) node.style.width = width;
}
