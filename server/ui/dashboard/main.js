/** The dashboard: one stream of events, shown as figures, a map and a list. */

import { request } from "../shared/api.js";
import { dataOf } from "../shared/event_stream.js";
import { count } from "../shared/format.js";
import { showModel, showStatus } from "../shared/header.js";
import { wireKeyButton } from "../shared/key.js";
import { BlockDetail } from "./block_detail.js";
import "./block_map.js";
import { blockInWords } from "./block_words.js";
import { ownerOf } from "./cells.js";
import { named } from "./columns.js";
import { keepRoomFor } from "./detail_room.js";
import { Feed } from "./feed.js";
import { Figures } from "./figures.js";
import { History } from "./history.js";
import { showCounts, wireColours } from "./legend.js";
import { Pace } from "./pace.js";
import { RequestList } from "./request_list.js";
import { onThemeChange, readTheme } from "./theme.js";
import { Trouble } from "./trouble.js";
import { write } from "./write.js";

/** Text and bars change in steps that can be read; layout ten times a second costs a lot more. */
const TEXT_STEP_MS = 500;

const find = (id) => document.getElementById(id);
const map = document.querySelector("block-map");
const main = document.querySelector("main");
const trouble = new Trouble(find("trouble"), main);
const figures = new Figures(find("figures"), find("moment"), find("moment-label"));
const list = new RequestList(find("requests"), {
  more: find("more-requests"),
  empty: find("no-requests"),
});
const detail = new BlockDetail(find("block-detail"), async (block, signal) => {
  const response = await request(`dashboard/blocks/${block}`, { signal });
  return response.json();
});

let hello = null;
let history = null;
let frame = null;
const text = new Pace(showFrame, TEXT_STEP_MS);

const handlers = {
  hello(message) {
    hello = message;
    // The map and the list stay as they were, and said to be old, until the first frame.
    frame = null;
    history = new History(hello.sample_columns, hello.history);
    showModel(hello.model);
    figures.begin(history, hello);
    showLastMinute();
  },
  frame(message) {
    if (frame === null) beginMap();
    map.applyFrame(message);
    frame = message;
    const requests = message.requests.map((row) => named(hello.request_columns, row));
    list.rows.update(requests, performance.now(), message);
    text.ask();
    trouble.clear();
  },
  sample(message) {
    history.add(message.values);
    figures.render();
    showLastMinute();
    const { index } = map.cursor;
    if (index === null) return;
    detail.writeAge(map.ageOf(index));
    // Filling up and changing holders need not change the cell.
    if (ownerOf(map.cells[index]) !== 0) detail.refresh();
  },
  trouble(message) {
    trouble.show(message.message, "The page goes on as soon as the engine does.", "Trouble");
  },
};

const feed = new Feed({
  async *open(signal) {
    yield* dataOf(await request("dashboard/events", { signal }));
  },
  onMessage: (message) => handlers[message.type]?.(message),
  onBroken({ message, retryInS }) {
    const isHopeless = retryInS === null;
    trouble.show(
      message,
      isHopeless ? "" : "Trying again every few seconds.",
      isHopeless ? "Not connected" : "Reconnecting",
    );
  },
});

function beginMap() {
  main.classList.remove("waiting");
  map.reset(hello.num_blocks);
  list.rows.clear();
}

function showFrame() {
  if (frame === null) return;
  const { counts, num_running, num_waiting } = frame;
  const numPresent = num_running + num_waiting;
  showCounts(find("legend"), counts);
  figures.setLive({ num_running, num_waiting, kv_usage: counts.used / hello.num_blocks });
  list.rows.expire(performance.now());
  list.render(numPresent);
  // No frame may come while ended requests wait to go.
  if (list.rows.hasDone) text.ask();
  find("empty").hidden = numPresent > 0 || counts.free < hello.num_blocks;
}

function showLastMinute() {
  const total = (name) => count(history.total(name, 60, hello.sample_interval_s));
  const ended = total("finished_per_s");
  const failed = total("failed_per_s");
  const preempted = total("preemptions_per_s");
  const text = `Last minute: ${ended} ended, ${failed} of them failed, ${preempted} preempted`;
  write(find("last-minute"), text);
}

function showPointed() {
  const { index } = map.cursor;
  if (index === null) {
    detail.show(null);
    list.mark(null);
    return;
  }
  const value = map.cells[index];
  const holder = list.rows.idOf(ownerOf(value));
  detail.show(index, value, holder, map.ageOf(index));
  list.mark(holder);
}

function followVisibility() {
  if (document.hidden) {
    feed.stop();
    trouble.doubt();
  } else {
    showStatus("busy", "Connecting");
    feed.start();
  }
}

map.cursor.describe = (index) =>
  blockInWords(index, map.cells[index], list.rows.idOf(ownerOf(map.cells[index])));
map.addEventListener("point", showPointed);
map.addEventListener("pointed-change", showPointed);
keepRoomFor(map, find("block-detail"));
list.onPoint = (owner) => {
  map.highlighted = owner;
};
wireColours(find("map-panel"), (colourBy) => {
  map.colourBy = colourBy;
});
onThemeChange(() => list.recolour(readTheme().isDark));
list.recolour(readTheme().isDark);
wireKeyButton(find("key"), () => {
  feed.restart();
  detail.forget();
  showPointed();
});
trouble.again.addEventListener("click", () => feed.restart());
document.addEventListener("visibilitychange", followVisibility);
followVisibility();
