/**
 * @file The page, put together: what is drawn or chosen becomes a state, the state is sent, the answer is shown.
 *
 * @typedef {import("./api.js").Description} Description
 * @typedef {import("./sketch.js").Stroke} Stroke
 */
import { answer, describe } from "./api.js";
import { Scheduler } from "./scheduler.js";
import { Cursor } from "./cursor.js";
import { byId } from "./dom.js";
import { toInput } from "./input.js";
import { Known } from "./known.js";
import { followPointers } from "./pen.js";
import { receivePictures } from "./pictures.js";
import { Sheet } from "./sheet.js";
import { Sketch } from "./sketch.js";
import { followKeys, Tools } from "./tools.js";
import { View } from "./view.js";
import { followLanguage, number, percent, words } from "./words.js";

const IDEAS = 3;

/** Between two attempts to read what the server's model is. */
const RETRY_MS = 3000;

/** @type {Description | null} */
let model = null;
/** @type {Stroke | null} */
let live = null;
/** @type {string[]} */
let ideas = [];

const view = new View();
const sheet = new Sheet(byId("sheet"));
const tools = new Tools((word) => view.say(/** @type {any} */ (words())[word]));
const known = new Known({ search: byId("search"), list: byId("classes"), found: byId("found") }, (shown, all) =>
  words().found(number(shown), number(all)),
);
const scheduler = new Scheduler({
  current: () => toInput(withLive(), model?.limits),
  send: answer,
  report: (stage) => view.show(stage),
});
const sketch = new Sketch((change) => {
  showSketch();
  scheduler.touch(change === "replaced");
});

/** What is on the paper, with the stroke that is being drawn. */
function withLive() {
  return live ? { ...sketch.now, strokes: [...sketch.now.strokes, live] } : sketch.now;
}

function showSketch() {
  const { picture, strokes } = sketch.now;
  const isUnseen = picture !== null && picture.bitmap === null && strokes.length === 0;
  sheet.show(sketch.now);
  // not `disabled`: that would take the focus away from who just pressed it
  byId("undo").setAttribute("aria-disabled", String(!sketch.canUndo));
  byId("redo").setAttribute("aria-disabled", String(!sketch.canRedo));
  byId("clear").setAttribute("aria-disabled", String(sketch.isBlank));
  byId("invitation").hidden = !sketch.isBlank || live !== null;
  byId("unseen").hidden = !isUnseen;
  byId("unseen").textContent = isUnseen ? words().unseen(picture.name) : "";
}

/** @param {Stroke} stroke */
function grew(stroke) {
  live = stroke;
  byId("invitation").hidden = true;
  sheet.showLive(stroke);
  scheduler.touch(false);
}

/** @param {Stroke} stroke */
function ended(stroke) {
  live = null;
  sketch.add(stroke);
  sheet.showLive(null);
}

/** @param {"undo" | "redo" | "clear"} what @param {"undone" | "redone" | "cleared"} word */
const act = (what, word) => () => {
  cursor.lift();
  const before = sketch.now;
  sketch[what]();
  if (sketch.now !== before) view.say(words()[word]);
};

function showModel() {
  if (!model) {
    byId("lead").textContent = words().lead_unknown;
    return;
  }
  const { accuracy } = model;
  byId("model").textContent = model.name;
  byId("lead").textContent = words().lead(number(model.classes), model.classes);
  byId("ideas").textContent = ideas.length ? words().ideas(ideas) : "";
  byId("others").hidden = model.classes <= IDEAS;
  byId("known").hidden = model.classes === 0;
  const [low, high] = accuracy?.ci95 ?? [0, 0];
  byId("proof").textContent = accuracy
    ? words().proof({ value: percent(accuracy.value, 1), low: percent(low, 1), high: percent(high, 1), of: accuracy.of })
    : "";
  known.filter();
}

function showIdeas() {
  ideas = known.some(IDEAS);
  showModel();
}

/** Read what the model is, again and again while the server is still loading; one can draw meanwhile. */
async function readModel() {
  try {
    model = await describe(new AbortController().signal);
    known.fill(model.class_names);
    showIdeas();
  } catch {
    setTimeout(readModel, RETRY_MS);
  }
}

const cursor = new Cursor(byId("sheet"), {
  tool: () => tools.tool,
  grew: (stroke) => {
    if (live === null) view.say(words().pen_down);
    grew(stroke);
  },
  ended: (stroke) => {
    ended(stroke);
    view.say(words().pen_up);
  },
  moved: (point, down) => sheet.showRing(point, tools.tool.pen, down),
});
followPointers(byId("sheet"), {
  toPaper: (event) => sheet.toPaper(event),
  tool: () => tools.tool,
  grew,
  ended,
  hovered: (event) => sheet.showRing(event && tools.tool.erase ? sheet.toPaper(event) : null, tools.tool.pen),
});
receivePictures({ button: byId("choose"), chooser: byId("file"), veil: byId("drop") }, (picture) => sketch.place(picture));
followKeys(tools, { undo: act("undo", "undone"), redo: act("redo", "redone"), clear: act("clear", "cleared") });
for (const [id, word] of /** @type {const} */ ([["undo", "undone"], ["redo", "redone"], ["clear", "cleared"]])) {
  byId(id).addEventListener("click", act(id, word));
}
byId("retry").addEventListener("click", () => scheduler.again());
byId("others").addEventListener("click", showIdeas);
addEventListener("online", () => scheduler.again());
followLanguage(() => {
  showModel();
  showSketch();
  view.again();
});
showSketch();
showModel();
readModel();
