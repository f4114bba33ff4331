/**
 * @file The only module that talks to the server. A page that runs the model in the browser replaces this module and nothing
 * else: the others need `answer`, `explain` and `describe` only.
 *
 * @typedef {import("./sketch.js").Stroke} Stroke
 * @typedef {import("./frame.js").Frame} Frame
 * @typedef {import("./frame.js").Chosen} Chosen
 * @typedef {{kind: "strokes", strokes: readonly Stroke[], side: number, pen: number}} StrokesOnly side of the paper and
 *   width of the page's usual pen, in the unit of the points.
 * @typedef {{placing: import("./frame.js").Placing | null, frame: Chosen | null}} Framed frame: what the model shall see, in
 *   the input's own units, which placing lays on the paper (null: nobody sees where).
 * @typedef {StrokesOnly & Framed} StrokesInput
 * @typedef {{kind: "file", file: Blob, name: string} & Framed} FileInput
 * @typedef {StrokesInput | FileInput} Input
 * @typedef {{class_name: string, target: number, probability: number}} Guess
 * @typedef {"almost_certain" | "likely" | "unsure" | "guess" | "blank"} Sureness
 * @typedef {{words: Sureness, text: string, accuracy: number | null, low: number | null, high: number | null, count: number}} Sure
 *   accuracy, with its 95 % interval, measured on count drawings held out of training, answered with about this confidence.
 * @typedef {{class_name: string, similarity: number, image: string}} Near image is a data URI.
 * @typedef {{top: Guess[], sure: Sure, nearest: Near[], frame: Frame | null, took_ms: number,
 *   model_ms: number | null}} Answer frame: what the model saw, in the input's units; null where that can't be said.
 * @typedef {{class_name: string, strokes: {box: Frame | null, effect: number, ink_fraction: number}[], picture: string,
 *   bounds: Frame | null}} Reasons strokes: what speaks most for the class first, effects in nats; picture: the coloured ink, a
 *   data URI; bounds: where it lies on the input, in the input's units; null where that can't be said.
 * @typedef {{name: string, classes: number, class_names: string[], size_px: number, backbones: string[], folds: number,
 *   accuracy: {value: number, ci95: [number, number], of: string} | null, nearest: boolean,
 *   limits: {body_bytes: number, pixels: number, side_ratio?: number, strokes: number, points: number}}} Description
 * @typedef {"busy" | "not_ready" | "too_large" | "unreadable" | "late" | "gone" | "locked" | "failed"} Trouble
 */

const TOP = 5;
const NEAREST = 6;

/** Each is a forward pass. */
const STROKES = 16;

/** An answer that takes longer is given up. */
const PATIENCE_MS = 30_000;

/** @type {Record<number, Trouble>} */
const TROUBLES = {
  400: "unreadable",
  401: "locked",
  408: "late",
  413: "too_large",
  415: "unreadable",
  422: "unreadable",
  429: "busy",
  503: "not_ready",
  504: "late",
};

/** Troubles that pass without the user. */
const PASSING = new Set(["busy", "not_ready", "late", "gone"]);

export class ApiError extends Error {
  /**
   * @param {Trouble} trouble
   * @param {string} [code] the server's stable word for what is wrong, such as `truncated`
   * @param {number | null} [retry_s] after how many seconds the server accepts another request
   */
  constructor(trouble, code = "", retry_s = null) {
    super(code || trouble);
    this.trouble = trouble;
    this.code = code;
    this.retry_s = retry_s;
    this.passes = PASSING.has(trouble);
  }
}

/** @param {Response} response */
async function toError(response) {
  const refusal = await response.json().then((body) => body.error, () => null);
  const retry_s = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const trouble = refusal?.code === "too_large" ? "too_large" : TROUBLES[response.status]; // a status of 422, as other pictures that can't be read
  return new ApiError(trouble ?? "failed", refusal?.code, Number.isFinite(retry_s) ? retry_s : null);
}

/**
 * Send a request; what goes wrong becomes an ApiError, unless the caller aborted.
 *
 * @param {string} address relative to the page
 * @param {RequestInit} request
 * @param {AbortSignal} signal
 * @returns {Promise<any>}
 */
async function send(address, request, signal) {
  const late = AbortSignal.timeout(PATIENCE_MS);
  try {
    const response = await fetch(address, { ...request, signal: AbortSignal.any([signal, late]), cache: "no-store" });
    if (!response.ok) throw await toError(response);
    return await response.json();
  } catch (error) {
    if (error instanceof ApiError || signal.aborted) throw error;
    if (late.aborted) throw new ApiError("late");
    throw new ApiError(error instanceof SyntaxError ? "failed" : "gone");
  }
}

/** @param {Input} input @returns {RequestInit} */
function toRequest(input) {
  if (input.kind === "file") {
    const kind = input.file.type.startsWith("image/") ? input.file.type : "application/octet-stream";
    return { method: "POST", headers: { "Content-Type": kind }, body: input.file };
  }
  const { strokes, side, pen, frame } = input;
  const body = JSON.stringify({ strokes, width: side, height: side, pen, ...(frame && { frame }) });
  return { method: "POST", headers: { "Content-Type": "application/json" }, body };
}

/** A file's frame is in the address. @param {string} path with its query @param {Input} input */
function toAddress(path, { kind, frame }) {
  const part = frame === null || frame === "page" ? frame : [frame.left, frame.top, frame.right, frame.bottom].join(",");
  return `${path}${kind === "file" && part ? `&frame=${part}` : ""}`;
}

/**
 * Recognise what is on the paper.
 *
 * @param {Input} input
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 * @throws {ApiError} if there is no answer; an aborted request rejects with the signal's reason
 */
export async function answer(input, signal) {
  const began = performance.now();
  const { answers: [first], time_ms } = await send(toAddress(`predict?top=${TOP}&nearest=${NEAREST}`, input), toRequest(input), signal);
  return { ...first, frame: first.frame ?? null, took_ms: performance.now() - began, model_ms: time_ms.model };
}

/**
 * What the answer is based on.
 *
 * @param {Input} input
 * @param {AbortSignal} signal
 * @returns {Promise<Reasons>}
 * @throws {ApiError} if there is no answer; an aborted request rejects with the signal's reason
 */
export function explain(input, signal) {
  return send(toAddress(`explain?strokes=${STROKES}`, input), toRequest(input), signal);
}

/**
 * What the model knows and how good it was measured to be.
 *
 * @param {AbortSignal} signal
 * @returns {Promise<Description>}
 */
export function describe(signal) {
  return send("api/model", {}, signal);
}
