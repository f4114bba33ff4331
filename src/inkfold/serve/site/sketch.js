/**
 * @file What is on the paper, and what was: pure data, no drawing. Every state is frozen, so undoing is going back to one.
 *
 * @typedef {[number, number]} Point x and y in units of the paper, 0 to PAPER.
 * @typedef {{points: Point[], pen: number, erase: boolean}} Stroke pen is the line's width in units of the paper.
 * @typedef {{file: Blob, name: string, bitmap: ImageBitmap | null}} Picture file is what
 *   is sent, bitmap what is shown: null where the browser can't read it.
 * @typedef {Readonly<{picture: Picture | null, strokes: readonly Stroke[],
 *   frame: import("./frame.js").Chosen | null}>} State frame: the part that somebody chose, in units of the paper.
 * @typedef {"added" | "replaced"} Change whether what was there before still is.
 */

/** The paper's side in its own units. */
export const PAPER = 1000;

/** Steps that can be undone; each holds only references. */
const REMEMBERED = 500;

/** @type {State} */
const BLANK = Object.freeze({ picture: null, strokes: Object.freeze([]), frame: null });

export class Sketch {
  /** @type {State[]} */
  #past = [];
  /** @type {State[]} */
  #future = [];
  #now = BLANK;
  #changed;

  /** @param {(change: Change) => void} changed called after every change */
  constructor(changed) {
    this.#changed = changed;
  }

  get now() {
    return this.#now;
  }

  get isBlank() {
    return this.#now.picture === null && this.#now.strokes.length === 0;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** @param {Stroke} stroke */
  add(stroke) {
    this.#step({ ...this.#now, strokes: Object.freeze([...this.#now.strokes, stroke]) }, "added");
  }

  /** Lay a picture on a fresh sheet. @param {Picture} picture */
  place(picture) {
    this.#step({ ...BLANK, picture }, "replaced");
  }

  /** Choose what the model sees; null leaves it to the server. @param {State["frame"]} frame */
  reframe(frame) {
    if (!this.isBlank) this.#step({ ...this.#now, frame }, "replaced");
  }

  clear() {
    if (!this.isBlank) this.#step(BLANK, "replaced");
  }

  undo() {
    this.#move(this.#past, this.#future);
  }

  redo() {
    this.#move(this.#future, this.#past);
  }

  /** @param {State} state @param {Change} change */
  #step(state, change) {
    this.#past.push(this.#now);
    if (this.#past.length > REMEMBERED) this.#past.shift();
    this.#future = [];
    this.#now = Object.freeze(state);
    this.#changed(change);
  }

  /** @param {State[]} from @param {State[]} to */
  #move(from, to) {
    const state = from.pop();
    if (!state) return;
    to.push(this.#now);
    this.#now = state;
    this.#changed("replaced");
  }
}
