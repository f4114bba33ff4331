/**
 * @file What is sent of a state: its strokes, the picture's own file, or a rendering of both.
 *
 * @typedef {import("./api.js").Input} Input
 * @typedef {import("./api.js").Description} Description
 * @typedef {import("./sketch.js").State} State
 * @typedef {import("./sketch.js").Picture} Picture
 * @typedef {import("./sketch.js").Stroke} Stroke
 */
import { paint } from "./brush.js";
import { contextOf } from "./dom.js";
import { PAPER } from "./sketch.js";

/** The pen that one begins with; the server takes widths relative to it. */
export const USUAL_PEN = 16;

/** Largest side of pictures that are drawn upon, or too large as they are. */
const RENDERED_PX = 1024;

/** @param {State} state @param {Description["limits"] | undefined} limits @returns {Promise<Blob>} */
function render(state, limits) {
  const side_px = Math.min(RENDERED_PX, Math.floor(Math.sqrt(limits?.pixels ?? Infinity)));
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side_px;
  paint(contextOf(canvas), side_px, state);
  return new Promise((done, failed) => {
    canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("the browser gave no PNG"))), "image/png");
  });
}

/** @param {Picture} picture @param {Description["limits"] | undefined} limits */
function isTooLarge({ file, bitmap }, limits) {
  if (!limits || !bitmap) return false;
  return file.size > limits.body_bytes || bitmap.width * bitmap.height > limits.pixels;
}

/** @param {readonly Stroke[]} strokes @param {Description["limits"] | undefined} limits */
function areTooMany(strokes, limits) {
  if (!limits) return false;
  return strokes.length > limits.strokes || strokes.reduce((sum, { points }) => sum + points.length, 0) > limits.points;
}

/**
 * @param {State} state
 * @param {Description["limits"] | undefined} limits undefined while they are unknown
 * @returns {Promise<Input | null>}
 */
export async function toInput(state, limits) {
  const { picture, strokes } = state;
  if (strokes.length === 0) {
    if (!picture) return null;
    if (!isTooLarge(picture, limits)) return { kind: "file", file: picture.file, name: picture.name };
  }
  if (picture?.bitmap || areTooMany(strokes, limits)) {
    return { kind: "file", file: await render(state, limits), name: picture?.name ?? "" };
  }
  return { kind: "strokes", strokes, side: PAPER, pen: USUAL_PEN };
}
