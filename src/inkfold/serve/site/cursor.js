/**
 * @file Drawing with the keyboard: arrows move a pen over the paper, the space bar puts it down and lifts it.
 *
 * @typedef {import("./sketch.js").Stroke} Stroke
 * @typedef {import("./sketch.js").Point} Point
 * @typedef {import("./pen.js").Tool} Tool
 */
import { extend } from "./pen.js";
import { PAPER } from "./sketch.js";

/** How far an arrow key moves the pen, in units of the paper, and how far with Shift. */
const STEP = 20;
const FINE = 5;

/** @type {Record<string, Point>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** @param {number} value */
const within = (value) => Math.min(PAPER, Math.max(0, value));

export class Cursor {
  /** @type {Point} */
  #at = [PAPER / 2, PAPER / 2];
  /** @type {Stroke | null} */
  #stroke = null;
  /** @type {Set<string>} */
  #held = new Set();
  #element;
  #callbacks;

  /**
   * @param {HTMLElement} element has the focus while one draws
   * @param {object} callbacks
   * @param {() => Tool | null} callbacks.tool null draws nothing
   * @param {(stroke: Stroke) => void} callbacks.grew
   * @param {(stroke: Stroke) => void} callbacks.ended
   * @param {(point: Point | null, down: boolean) => void} callbacks.moved called with where the pen is, null when it is put away
   */
  constructor(element, callbacks) {
    this.#element = element;
    this.#callbacks = callbacks;
    element.addEventListener("keydown", (event) => this.#pressed(event));
    element.addEventListener("keyup", (event) => this.#held.delete(event.key));
    element.addEventListener("pointerdown", () => this.putAway(true));
    element.addEventListener("blur", () => this.putAway(false));
  }

  /** Lift the pen; what it drew stays. */
  lift() {
    const done = this.#stroke;
    this.#stroke = null;
    if (done) this.#callbacks.ended(done);
  }

  /** @param {boolean} isPointed whether a pointer draws now, so that the focus need not be seen */
  putAway(isPointed) {
    this.#element.classList.toggle("pointed", isPointed);
    this.#held.clear();
    this.lift();
    this.#callbacks.moved(null, false);
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    const isOwn = event.target === this.#element && this.#callbacks.tool() !== null;
    if (!isOwn || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS) this.#move(event.key, event.shiftKey ? FINE : STEP);
    else if (event.key === " " || event.code === "Space" || event.key === "Enter") this.#toggle(event.repeat);
    else if (event.key === "Escape") this.putAway(false);
    else return;
    this.#element.classList.remove("pointed");
    event.preventDefault();
  }

  /** Move by all arrows that are held, so that two make a diagonal. @param {string} key @param {number} step */
  #move(key, step) {
    this.#held.add(key);
    for (const held of this.#held) {
      const [x, y] = ARROWS[held];
      this.#at = [within(this.#at[0] + x * step), within(this.#at[1] + y * step)];
    }
    if (this.#stroke) {
      extend(this.#stroke, this.#at);
      this.#callbacks.grew(this.#stroke);
    }
    this.#callbacks.moved(this.#at, this.#stroke !== null);
  }

  /** @param {boolean} repeated a key that is held toggles once */
  #toggle(repeated) {
    if (repeated) return;
    const tool = this.#callbacks.tool();
    if (this.#stroke) this.lift();
    else if (tool) {
      this.#stroke = { points: [this.#at], ...tool };
      this.#callbacks.grew(this.#stroke);
    }
    this.#callbacks.moved(this.#at, this.#stroke !== null);
  }
}
