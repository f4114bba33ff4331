/**
 * @file What is sent of a state: its strokes, the picture's own file, or a rendering of both.
 *
 * @typedef {import("./api.js").Input} Input
 * @typedef {import("./api.js").FileInput} FileInput
 * @typedef {import("./api.js").Description} Description
 * @typedef {import("./frame.js").Chosen} Chosen
 * @typedef {import("./frame.js").Placing} Placing
 * @typedef {import("./sketch.js").State} State
 * @typedef {import("./sketch.js").Picture} Picture
 * @typedef {import("./sketch.js").Stroke} Stroke
 */
import { paint } from "./brush.js";
import { contextOf, toPng } from "./dom.js";
import { fromPaper, placePicture, WHOLE } from "./frame.js";
import { PAPER } from "./sketch.js";

/** The pen that one begins with; the server takes widths relative to it. */
export const USUAL_PEN = 16;

/** Largest side of pictures that are drawn upon, or too large as they are. */
const RENDERED_PX = 1024;

/** @param {State} state @param {Description["limits"] | undefined} limits @returns {Promise<FileInput>} */
async function render(state, limits) {
  const side_px = Math.min(RENDERED_PX, Math.floor(Math.sqrt(limits?.pixels ?? Infinity)));
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side_px;
  paint(contextOf(canvas), side_px, state);
  const placing = { scale: PAPER / side_px, x: 0, y: 0 };
  // a picture that is drawn upon was framed alone, the paper around it is the page now
  return { kind: "file", file: await toPng(canvas), name: state.picture?.name ?? "", placing, frame: frameIn(state.frame, placing) };
}

/** @param {Chosen | null} chosen @param {Placing} placing */
const frameIn = (chosen, placing) => (chosen === null || chosen === "page" ? chosen : fromPaper(chosen, placing));

/** @param {Picture} picture @param {Description["limits"] | undefined} limits */
function isTooLarge({ file, bitmap }, limits) {
  if (!limits || !bitmap) return false;
  const [shorter, longer] = [bitmap.width, bitmap.height].sort((a, b) => a - b);
  const isLong = limits.side_ratio !== undefined && longer > limits.side_ratio * shorter;
  return isLong || file.size > limits.body_bytes || bitmap.width * bitmap.height > limits.pixels;
}

/** @param {readonly Stroke[]} strokes @param {Description["limits"] | undefined} limits */
function areTooMany(strokes, limits) {
  if (!limits) return false;
  return strokes.length > limits.strokes || strokes.reduce((sum, { points }) => sum + points.length, 0) > limits.points;
}

/**
 * @param {State} state
 * @param {Description["limits"] | undefined} limits undefined while they are unknown
 * @param {boolean} [isRefused] whether the server took the picture's own file for too large
 * @returns {Promise<Input | null>}
 */
export async function toInput(state, limits, isRefused = false) {
  const { picture, strokes, frame } = state;
  if (strokes.length === 0) {
    if (!picture) return null;
    if (!isRefused && !isTooLarge(picture, limits)) {
      const placing = picture.bitmap ? placePicture(picture.bitmap) : null;
      const part = placing ? frameIn(frame, placing) : null;
      return { kind: "file", file: picture.file, name: picture.name, placing, frame: part };
    }
  }
  if (picture?.bitmap || areTooMany(strokes, limits)) return render(state, limits);
  const placing = { scale: 1, x: 0, y: 0 };
  return { kind: "strokes", strokes, side: PAPER, pen: USUAL_PEN, placing, frame: frame === "page" ? WHOLE : frame };
}
