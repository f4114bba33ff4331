/**
 * @file How a state looks on a 2D context whose units are the paper's. Strokes are smoothed for the eye only: the server
 * gets the points as they were drawn.
 *
 * @typedef {import("./sketch.js").State} State
 * @typedef {import("./sketch.js").Stroke} Stroke
 * @typedef {import("./sketch.js").Picture} Picture
 * @typedef {import("./sketch.js").Point} Point
 */
import { placePicture } from "./frame.js";
import { PAPER } from "./sketch.js";

const INK = "#1d1d1b";
const WHITE = "#ffffff";

/** Corners between segments that are at least so long, in units of the paper, are meant: they stay corners. */
const MEANT = 12;

/** The cosine of the least turn, 45 degrees, that is a corner. */
const TURNED = Math.SQRT1_2;

/** @param {Point} before @param {Point} here @param {Point} after */
function isCorner(before, here, after) {
  const [ax, ay, bx, by] = [here[0] - before[0], here[1] - before[1], after[0] - here[0], after[1] - here[1]];
  const [a, b] = [Math.hypot(ax, ay), Math.hypot(bx, by)];
  return Math.min(a, b) >= MEANT && ax * bx + ay * by < TURNED * a * b;
}

/**
 * Lay a tap as the dot that the server draws: browsers disagree on whether a line without length has round ends.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Stroke} stroke
 */
function layDot(context, { points: [[x, y]], pen, erase }) {
  context.fillStyle = erase ? WHITE : INK;
  context.beginPath();
  context.arc(x, y, pen / 2, 0, 2 * Math.PI);
  context.fill();
}

/**
 * Lay a stroke, as quadratic curves between the middles of its segments, but for corners.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Stroke} stroke
 */
export function layStroke(context, stroke) {
  const { points, pen, erase } = stroke;
  if (points.length === 1) return layDot(context, stroke);
  context.strokeStyle = erase ? WHITE : INK;
  context.lineWidth = pen;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(...points[0]);
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i];
    if (isCorner(points[i - 1], points[i], points[i + 1])) context.lineTo(x, y);
    else context.quadraticCurveTo(x, y, (x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2);
  }
  context.lineTo(...points[points.length - 1]);
  context.stroke();
}

/**
 * Lay a picture whole, in the middle.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Picture} picture
 */
function layPicture(context, { bitmap }) {
  if (!bitmap) return;
  const { scale, x, y } = placePicture(bitmap);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, x, y, bitmap.width * scale, bitmap.height * scale);
}

/**
 * Paint all of a state on a context of side_px pixels.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {number} side_px
 * @param {State} state
 */
export function paint(context, side_px, { picture, strokes }) {
  context.setTransform(side_px / PAPER, 0, 0, side_px / PAPER, 0, 0);
  context.fillStyle = WHITE;
  context.fillRect(0, 0, PAPER, PAPER);
  if (picture) layPicture(context, picture);
  for (const stroke of strokes) layStroke(context, stroke);
}
