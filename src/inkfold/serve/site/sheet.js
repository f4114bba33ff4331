/**
 * @file The sheet on the screen: one canvas of what is done and one above it of the stroke that is being drawn, so that a long
 * drawing costs nothing while one draws.
 *
 * @typedef {import("./sketch.js").State} State
 * @typedef {import("./sketch.js").Stroke} Stroke
 * @typedef {import("./sketch.js").Point} Point
 */
import { layStroke, paint } from "./brush.js";
import { contextOf } from "./dom.js";
import { PAPER } from "./sketch.js";

/** @param {number} value */
const rounded = (value) => Math.round(value * 10) / 10;

export class Sheet {
  #element;
  #ring;
  #base;
  #live;
  #side_px = 0;
  /** @type {State | null} */
  #state = null;
  /** @type {Stroke | null} */
  #stroke = null;
  #frame = 0;

  /** @param {HTMLElement} element holds #base, #live and #ring */
  constructor(element) {
    this.#element = element;
    this.#ring = /** @type {HTMLElement} */ (element.querySelector("#ring"));
    this.#base = contextOf(/** @type {HTMLCanvasElement} */ (element.querySelector("#base")));
    this.#live = contextOf(/** @type {HTMLCanvasElement} */ (element.querySelector("#live")));
    new ResizeObserver(() => this.#fit()).observe(element);
    this.#fit();
  }

  /** @param {State} state */
  show(state) {
    this.#state = state;
    paint(this.#base, this.#side_px, state);
  }

  /** Show the stroke that is being drawn, with the next frame. @param {Stroke | null} stroke */
  showLive(stroke) {
    this.#stroke = stroke;
    this.#frame ||= requestAnimationFrame(() => this.#drawLive());
  }

  /** Where an event is on the paper. @param {MouseEvent} event @returns {Point} */
  toPaper(event) {
    const { left, top, width } = this.#element.getBoundingClientRect();
    const scale = PAPER / width;
    return [rounded((event.clientX - left) * scale), rounded((event.clientY - top) * scale)];
  }

  /**
   * Show where the pen is and how wide.
   *
   * @param {Point | null} point null hides it
   * @param {number} [pen]
   * @param {boolean} [down]
   */
  showRing(point, pen = 0, down = false) {
    this.#ring.hidden = point === null;
    if (point === null) return;
    this.#ring.style.setProperty("--x", `${(point[0] / PAPER) * 100}%`);
    this.#ring.style.setProperty("--y", `${(point[1] / PAPER) * 100}%`);
    this.#ring.style.setProperty("--wide", `${(pen / PAPER) * 100}%`);
    this.#ring.classList.toggle("down", down);
  }

  #fit() {
    const side_px = Math.max(1, Math.round(this.#element.clientWidth * Math.max(1, devicePixelRatio)));
    if (side_px === this.#side_px) return;
    this.#side_px = side_px;
    for (const { canvas } of [this.#base, this.#live]) canvas.width = canvas.height = side_px;
    if (this.#state) this.show(this.#state);
    this.#drawLive();
  }

  #drawLive() {
    this.#frame = 0;
    this.#live.setTransform(this.#side_px / PAPER, 0, 0, this.#side_px / PAPER, 0, 0);
    this.#live.clearRect(0, 0, PAPER, PAPER);
    if (this.#stroke) layStroke(this.#live, this.#stroke);
  }
}
