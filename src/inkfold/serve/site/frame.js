/**
 * @file The frame: which part of the paper the model sees. The server finds it; whoever draws can see and correct it.
 *
 * @typedef {import("./sketch.js").State} State
 * @typedef {import("./sketch.js").Point} Point
 * @typedef {{left: number, top: number, right: number, bottom: number}} Frame x to the right, y down.
 * @typedef {Frame | "page"} Chosen "page": all that is there.
 * @typedef {{scale: number, x: number, y: number}} Placing from an input's units to the paper's: value * scale + x or y.
 * @typedef {"left" | "top" | "right" | "bottom"} Edge
 */
import { PAPER } from "./sketch.js";

/** @type {Frame} */
export const WHOLE = Object.freeze({ left: 0, top: 0, right: PAPER, bottom: PAPER });

/** @type {readonly Edge[]} */
export const EDGES = ["left", "top", "right", "bottom"];

/** The least width and height of a chosen frame, in units of the paper. */
export const LEAST = 20;

/** A chosen frame whose edges are all this near to the page's is the page. */
const NEAR = 4;

/** A frame of less than this share of the page is worth a word. */
const PART = 0.9;

/** Where a picture lies on the paper. @param {{width: number, height: number}} size @returns {Placing} */
export function placePicture({ width, height }) {
  const scale = PAPER / Math.max(width, height);
  return { scale, x: (PAPER - width * scale) / 2, y: (PAPER - height * scale) / 2 };
}

/** Where the page is that is sent of a state: the picture alone, else the whole paper. @param {State} state @returns {Frame} */
export function pageOf({ picture, strokes }) {
  if (!picture?.bitmap || strokes.length > 0) return WHOLE;
  const { x, y } = placePicture(picture.bitmap);
  return { left: x, top: y, right: PAPER - x, bottom: PAPER - y };
}

/** @param {Frame} frame @param {(value: number, edge: Edge) => number} change @returns {Frame} */
function mapFrame(frame, change) {
  const [left, top, right, bottom] = EDGES.map((edge) => change(frame[edge], edge));
  return { left, top, right, bottom };
}

/** @param {Edge} edge */
const isAcross = (edge) => edge === "left" || edge === "right";

/** @param {Frame} frame @param {Placing} placing */
export const toPaper = (frame, { scale, x, y }) => mapFrame(frame, (value, edge) => value * scale + (isAcross(edge) ? x : y));

/** A frame on the paper in an input's units, whole pixels where they are pixels. @param {Frame} frame @param {Placing} placing */
export const fromPaper = (frame, { scale, x, y }) =>
  mapFrame(frame, (value, edge) => Math.round(((value - (isAcross(edge) ? x : y)) / scale) * 100) / 100);

/** The part of a frame that is within another. @param {Frame} frame @param {Frame} page @returns {Frame} */
export function within(frame, page) {
  const clip = /** @type {(value: number, low: number, high: number) => number} */ ((value, low, high) =>
    Math.min(high, Math.max(low, value)));
  return mapFrame(frame, (value, edge) =>
    isAcross(edge) ? clip(value, page.left, page.right) : clip(value, page.top, page.bottom),
  );
}

/** What a drawn frame chooses of a page; null where it has next to nothing of it. @param {Frame} frame @param {Frame} page @returns {Chosen | null} */
export function toChosen(frame, page) {
  const part = within(frame, page);
  if (EDGES.every((edge) => Math.abs(part[edge] - page[edge]) <= NEAR)) return "page";
  return part.right - part.left < LEAST || part.bottom - part.top < LEAST ? null : part;
}

/** @param {Frame} frame */
const area = ({ left, top, right, bottom }) => Math.max(0, right - left) * Math.max(0, bottom - top);

/** Strokes of ink with no point in a frame. @param {State} state @param {Frame} frame */
export function countOutside({ strokes }, { left, top, right, bottom }) {
  const isOutside = (/** @type {Point} */ [x, y]) => x < left || x > right || y < top || y > bottom;
  return strokes.filter(({ points, erase }) => !erase && points.every(isOutside)).length;
}

/** Whether a picture is cut to a frame. @param {State} state @param {Frame} frame */
export function isCut(state, frame) {
  const page = pageOf(state);
  return state.picture !== null && area(within(frame, page)) < PART * area(page);
}
