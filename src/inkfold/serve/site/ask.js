/**
 * @file The one place through which the page gets answers. A page that runs the model in the browser replaces this module and
 * nothing else: `answer` and `describe` are all that is asked of it.
 *
 * @typedef {import("./sketch.js").Stroke} Stroke
 * @typedef {{kind: "strokes", strokes: readonly Stroke[], side: number, pen: number}} StrokesInput side of the paper and
 *   width of the page's usual pen, in the unit of the points.
 * @typedef {{kind: "file", file: Blob, name: string}} FileInput
 * @typedef {StrokesInput | FileInput} Input
 * @typedef {{class_name: string, target: number, probability: number}} Guess
 * @typedef {"almost_certain" | "likely" | "unsure" | "guess" | "blank"} Sureness
 * @typedef {{words: Sureness, text: string, accuracy: number | null, low: number | null, high: number | null, count: number}} Sure
 *   accuracy, with its 95 % interval, of the count answers this sure on drawings that were not learnt from.
 * @typedef {{class_name: string, similarity: number, image: string}} Near image is a data URI.
 * @typedef {{top: Guess[], sure: Sure, nearest: Near[], took_ms: number, model_ms: number | null}} Answer
 * @typedef {{name: string, classes: number, class_names: string[], size_px: number, backbones: string[], folds: number,
 *   accuracy: {value: number, ci95: [number, number], of: string} | null, nearest: boolean,
 *   limits: {body_bytes: number, pixels: number, strokes: number, points: number}}} Description
 * @typedef {"busy" | "not_ready" | "too_large" | "unreadable" | "late" | "gone" | "failed"} Trouble
 */

const TOP = 5;
const NEAREST = 6;

/** Longer than this no answer is worth. */
const PATIENCE_MS = 30_000;

/** @type {Record<number, Trouble>} */
const TROUBLES = {
  400: "unreadable",
  408: "late",
  413: "too_large",
  415: "unreadable",
  422: "unreadable",
  429: "busy",
  503: "not_ready",
  504: "late",
};

/** Troubles that pass by themselves. */
const PASSING = new Set(["busy", "not_ready", "late", "gone"]);

export class AskError extends Error {
  /**
   * @param {Trouble} trouble
   * @param {string} [reason] in the server's words
   * @param {number | null} [retry_s] when the server wants to be asked again
   */
  constructor(trouble, reason = "", retry_s = null) {
    super(reason || trouble);
    this.trouble = trouble;
    this.reason = reason;
    this.retry_s = retry_s;
    this.passes = PASSING.has(trouble);
  }
}

/** @param {Response} response */
async function toError(response) {
  const told = await response.json().then((body) => body.error, () => null);
  const reason = told ? `${told.reason}; expected ${told.expected}. ${told.do}` : "";
  const retry_s = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const trouble = told?.code === "too_large" ? "too_large" : TROUBLES[response.status]; // 422, as of other pictures
  return new AskError(trouble ?? "failed", reason, Number.isFinite(retry_s) ? retry_s : null);
}

/**
 * Ask the server; what goes wrong becomes an AskError, unless the caller aborted.
 *
 * @param {string} address relative to the page
 * @param {RequestInit} request
 * @param {AbortSignal} signal
 * @returns {Promise<any>}
 */
async function ask(address, request, signal) {
  const late = AbortSignal.timeout(PATIENCE_MS);
  try {
    const response = await fetch(address, { ...request, signal: AbortSignal.any([signal, late]), cache: "no-store" });
    if (!response.ok) throw await toError(response);
    return await response.json();
  } catch (error) {
    if (error instanceof AskError || signal.aborted) throw error;
    if (late.aborted) throw new AskError("late");
    throw new AskError(error instanceof SyntaxError ? "failed" : "gone");
  }
}

/** @param {Input} input @returns {RequestInit} */
function toRequest(input) {
  if (input.kind === "file") {
    const kind = input.file.type.startsWith("image/") ? input.file.type : "application/octet-stream";
    return { method: "POST", headers: { "Content-Type": kind }, body: input.file };
  }
  const { strokes, side, pen } = input;
  const body = JSON.stringify({ strokes, width: side, height: side, pen });
  return { method: "POST", headers: { "Content-Type": "application/json" }, body };
}

/**
 * What is this? The only question that the page asks.
 *
 * @param {Input} input
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 * @throws {AskError} if there is no answer; what `signal` aborts rejects with its reason
 */
export async function answer(input, signal) {
  const began = performance.now();
  const { answers: [said], time_ms } = await ask(`predict?top=${TOP}&nearest=${NEAREST}`, toRequest(input), signal);
  return { ...said, took_ms: performance.now() - began, model_ms: time_ms.model };
}

/**
 * What the model knows and how good it was measured to be.
 *
 * @param {AbortSignal} signal
 * @returns {Promise<Description>}
 */
export function describe(signal) {
  return ask("api/model", {}, signal);
}
