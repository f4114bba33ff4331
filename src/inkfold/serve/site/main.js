/**
 * @file The page, put together: what is drawn or chosen becomes a state, the state is sent, the answer is shown.
 *
 * @typedef {import("./api.js").Description} Description
 * @typedef {import("./api.js").Input} Input
 * @typedef {import("./api.js").Answer} Answer
 * @typedef {import("./api.js").Reasons} Reasons
 * @typedef {import("./frame.js").Frame} Frame
 * @typedef {import("./sketch.js").Stroke} Stroke
 */
import { ApiError, answer, describe, explain } from "./api.js";
import { Scheduler } from "./scheduler.js";
import { Cursor } from "./cursor.js";
import { byId } from "./dom.js";
import { countOutside, isCut, pageOf, toChosen, toPaper, within } from "./frame.js";
import { Framing } from "./framing.js";
import { toInput } from "./input.js";
import { Known } from "./known.js";
import { followPointers } from "./pen.js";
import { receivePictures } from "./pictures.js";
import { Sheet } from "./sheet.js";
import { Shortcuts } from "./shortcuts.js";
import { PAPER, Sketch } from "./sketch.js";
import { followKeys, Tools } from "./tools.js";
import { View } from "./view.js";
import { Why } from "./why.js";
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
/** What the model saw last, in units of the paper. @type {Frame | null} */
let seen = null;

const view = new View();
const sheet = new Sheet(byId("sheet"));
const tools = new Tools((tool) => {
  view.say(tool === "frame" ? words().framing : words()[tool]);
  cursor.lift();
  showFrame();
});
const shortcuts = new Shortcuts();
const known = new Known({ search: byId("search"), list: byId("classes"), found: byId("found") }, (shown, all) =>
  words().found(number(shown), number(all)),
);
const scheduler = new Scheduler({
  current: () => toInput(withLive(), model?.limits),
  send: ask,
  report: (stage) => {
    if (stage.kind === "answered") seen = stage.answer.frame;
    if (stage.kind === "idle" || stage.kind === "failed") seen = null;
    if (stage.kind === "answered") why.answered(stage.answer.sure.words === "blank");
    else why.hide();
    view.show(stage);
    showFrame();
  },
});
const why = new Why({ ask: askWhy, say: (text) => view.say(text), place: (point) => placeOf(point) });
const sketch = new Sketch((change) => {
  why.hide();
  if (change === "replaced") seen = null;
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
  showFrame();
  // not `disabled`: that would take the focus away from who just pressed it
  byId("undo").setAttribute("aria-disabled", String(!sketch.canUndo));
  byId("redo").setAttribute("aria-disabled", String(!sketch.canRedo));
  byId("clear").setAttribute("aria-disabled", String(sketch.isBlank));
  byId("invitation").hidden = !sketch.isBlank || live !== null;
  byId("unseen").hidden = !isUnseen;
  byId("unseen").textContent = isUnseen ? words().unseen(picture.name) : "";
}

/**
 * Send what is on the paper. A file that is too large in a way that only the server sees is sent smaller.
 *
 * @template Said
 * @param {Input} input
 * @param {AbortSignal} signal
 * @param {(input: Input, signal: AbortSignal) => Promise<Said>} send
 * @returns {Promise<[Said, Input]>} with the input that was sent at last
 */
async function sendOrSmaller(input, signal, send) {
  const { now } = sketch;
  try {
    return [await send(input, signal), input];
  } catch (error) {
    const smaller = input.kind === "file" && input.file === now.picture?.file && now.picture.bitmap && error instanceof ApiError;
    if (!smaller || error.trouble !== "too_large") throw error;
    const rendered = await toInput(now, model?.limits, true);
    if (!rendered) throw error;
    return sendOrSmaller(rendered, signal, send);
  }
}

/** An answer whose frame lies on the paper. @param {Input} input @param {AbortSignal} signal @returns {Promise<Answer>} */
async function ask(input, signal) {
  const [said, { placing }] = await sendOrSmaller(input, signal, answer);
  return { ...said, frame: said.frame && placing && toPaper(said.frame, placing) };
}

/** What the answer is based on, on the paper. @param {AbortSignal} signal @returns {Promise<Reasons | null>} */
async function askWhy(signal) {
  const input = await toInput(sketch.now, model?.limits);
  if (!input) return null;
  const [said, { placing }] = await sendOrSmaller(input, signal, explain);
  const onPaper = (/** @type {Frame | null} */ frame) => frame && placing && toPaper(frame, placing);
  return { ...said, bounds: onPaper(said.bounds), strokes: said.strokes.map((one) => ({ ...one, box: onPaper(one.box) })) };
}

/** Show what the model sees, and say what of the drawing it doesn't. */
function showFrame() {
  const { frame, picture } = sketch.now;
  const shown = frame === "page" ? pageOf(sketch.now) : frame ?? (seen && within(seen, pageOf(sketch.now)));
  framing.show(shown, frame !== null && frame !== "page");
  const outside = frame === null && seen ? countOutside(sketch.now, seen) : 0;
  const what = {
    page: picture ? words().chosen_picture : words().chosen_page,
    part: words().chosen_part,
    outside: words().outside(number(outside), outside),
    cut: words().cut,
  };
  const isCutOut = shown !== null && isCut(sketch.now, shown);
  const kind = frame === "page" ? "page" : frame ? "part" : outside ? "outside" : isCutOut ? "cut" : null;
  byId("framed").hidden = kind === null;
  byId("framed-what").textContent = kind && what[kind];
  byId("count-all").hidden = frame === "page";
  byId("automatic").hidden = frame === null;
}

/** @param {Stroke} stroke */
function grew(stroke) {
  live = stroke;
  why.hide();
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

/** Where a point is, for those who can't see it. @param {import("./sketch.js").Point} point */
const placeOf = ([x, y]) => words().place(percent(x / PAPER), percent(y / PAPER));

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
    view.limits = model.limits;
    known.fill(model.class_names);
    showIdeas();
  } catch {
    setTimeout(readModel, RETRY_MS);
  }
}

const framing = new Framing(byId("sheet"), {
  isOn: () => tools.isFraming,
  toPaper: (event) => sheet.toPaper(event),
  chosen: (frame) => {
    const chosen = toChosen(frame, pageOf(sketch.now));
    if (chosen && !sketch.isBlank) sketch.reframe(chosen);
    else showFrame();
  },
  describe: (edge, value) => words().edge[edge](percent(value / PAPER)),
});
const cursor = new Cursor(byId("sheet"), {
  tool: () => tools.tool,
  grew: (stroke) => {
    if (live === null) view.say(`${words().pen_down}, ${placeOf(stroke.points[0])}`);
    grew(stroke);
  },
  ended: (stroke) => {
    ended(stroke);
    view.say(words().pen_up);
  },
  moved: (point, down) => {
    sheet.showRing(point, tools.tool?.pen, down);
    view.place(point ? placeOf(point) : "");
  },
});
followPointers(byId("sheet"), {
  toPaper: (event) => sheet.toPaper(event),
  tool: () => tools.tool,
  grew,
  ended,
  hovered: (event) => sheet.showRing(event && tools.tool?.erase ? sheet.toPaper(event) : null, tools.tool?.pen),
});
receivePictures({ button: byId("choose"), chooser: byId("file"), veil: byId("drop") }, (picture) => sketch.place(picture));
followKeys(tools, { undo: act("undo", "undone"), redo: act("redo", "redone"), clear: act("clear", "cleared") }, () => shortcuts.areOn);
for (const [id, word] of /** @type {const} */ ([["undo", "undone"], ["redo", "redone"], ["clear", "cleared"]])) {
  byId(id).addEventListener("click", act(id, word));
}
byId("retry").addEventListener("click", () => scheduler.again());
byId("others").addEventListener("click", showIdeas);
byId("count-all").addEventListener("click", () => sketch.reframe("page"));
byId("automatic").addEventListener("click", () => sketch.reframe(null));
addEventListener("online", () => scheduler.again());
followLanguage(() => {
  showModel();
  showSketch();
  view.again();
  why.again();
});
showSketch();
showModel();
readModel();
