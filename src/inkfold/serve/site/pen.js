/**
 * @file Mouse, pen and finger: pointer events become strokes. One pointer draws at a time; pressure is ignored, since the
 * drawings that the model was trained on have lines of one width.
 *
 * @typedef {import("./sketch.js").Stroke} Stroke
 * @typedef {import("./sketch.js").Point} Point
 * @typedef {{erase: boolean, pen: number}} Tool
 */

/** Points nearer than this to the last one, in units of the paper, say nothing new. */
const APART = 2;

/** The bit of `buttons` that a pen sets while its eraser end is down. */
const ERASER_END = 32;

/** @param {Point} a @param {Point} b */
const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/** Add a point unless it is where the last one is. @param {Stroke} stroke @param {Point} point */
export function extend(stroke, point) {
  if (distance(stroke.points[stroke.points.length - 1], point) >= APART) stroke.points.push(point);
}

/**
 * Follow pointers over an element.
 *
 * @param {HTMLElement} element
 * @param {object} callbacks
 * @param {(event: MouseEvent) => Point} callbacks.toPaper
 * @param {() => Tool | null} callbacks.tool the tool when a stroke begins; null draws nothing
 * @param {(stroke: Stroke) => void} callbacks.grew called while a stroke is drawn
 * @param {(stroke: Stroke) => void} callbacks.ended called once it is complete
 * @param {(event: PointerEvent | null) => void} callbacks.hovered called with where a mouse or pen is, null when it left
 */
export function followPointers(element, { toPaper, tool, grew, ended, hovered }) {
  /** @type {Stroke | null} */
  let stroke = null;
  let drawing = -1;

  /** @param {PointerEvent} event */
  const finish = (event) => {
    if (event.pointerId !== drawing || !stroke) return;
    const done = stroke;
    stroke = null;
    drawing = -1;
    ended(done);
  };

  element.addEventListener("pointerdown", (event) => {
    if (stroke || (event.button !== 0 && !(event.buttons & ERASER_END))) return;
    const taken = tool();
    if (!taken) return;
    element.setPointerCapture(event.pointerId);
    drawing = event.pointerId;
    const { erase, pen } = taken;
    stroke = { points: [toPaper(event)], pen, erase: erase || (event.buttons & ERASER_END) > 0 };
    grew(stroke);
  });
  element.addEventListener("pointermove", (event) => {
    hovered(event.pointerType === "touch" ? null : event);
    if (event.pointerId !== drawing || !stroke) return;
    const passed = event.getCoalescedEvents();
    for (const move of passed.length ? passed : [event]) extend(stroke, toPaper(move));
    grew(stroke);
  });
  element.addEventListener("pointerup", finish);
  element.addEventListener("pointercancel", finish);
  element.addEventListener("lostpointercapture", finish);
  element.addEventListener("pointerleave", () => hovered(null));
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  // Else a finger's quick stroke counts as a fling, and the next tap on a button only ends that (seen in Chromium 156).
  element.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
}
