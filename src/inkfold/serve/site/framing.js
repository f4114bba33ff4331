/**
 * @file The frame on the sheet: marks at its corners, and, while the frame is the tool, handles to drag and edges for the keys.
 *
 * @typedef {import("./frame.js").Frame} Frame
 * @typedef {import("./frame.js").Edge} Edge
 * @typedef {import("./sketch.js").Point} Point
 */
import { EDGES, LEAST, WHOLE } from "./frame.js";
import { PAPER } from "./sketch.js";

/** How far an arrow key moves an edge, in units of the paper, and how far with Shift. */
const STEP = 20;
const FINE = 5;

/** @type {Record<string, number>} */
const ARROWS = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };

/** @type {Record<Edge, Edge>} */
const OPPOSITE = { left: "right", right: "left", top: "bottom", bottom: "top" };

export class Framing {
  #sheet;
  #box;
  #callbacks;
  /** @type {Frame} */
  #frame = WHOLE;
  /** @type {{pointer: number, edges: Edge[], start: Point | null} | null} */
  #drag = null;
  #isChanged = false;

  /**
   * @param {HTMLElement} sheet holds #marks, whose handles name their edges
   * @param {object} callbacks
   * @param {() => boolean} callbacks.isOn whether the frame is the tool
   * @param {(event: MouseEvent) => Point} callbacks.toPaper
   * @param {(frame: Frame) => void} callbacks.chosen called once a frame has been drawn or an edge moved
   * @param {(edge: Edge, value: number) => string} callbacks.describe where an edge is, in words
   */
  constructor(sheet, callbacks) {
    this.#sheet = sheet;
    this.#box = /** @type {HTMLElement} */ (sheet.querySelector("#marks"));
    this.#callbacks = callbacks;
    sheet.addEventListener("pointerdown", (event) => this.#began(event), { capture: true });
    sheet.addEventListener("pointermove", (event) => this.#dragged(event));
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) sheet.addEventListener(kind, () => this.#dropped());
    for (const handle of this.#sliders) {
      handle.addEventListener("keydown", (event) => this.#pressed(event));
      handle.addEventListener("keyup", () => this.#choose());
      handle.addEventListener("blur", () => this.#choose());
    }
  }

  /** @returns {HTMLElement[]} */
  get #sliders() {
    return [...this.#box.querySelectorAll("[role=slider]")].map((handle) => /** @type {HTMLElement} */ (handle));
  }

  /**
   * Show a frame, unless another is being made.
   *
   * @param {Frame | null} frame null where none is known
   * @param {boolean} isChosen whether somebody chose it
   */
  show(frame, isChosen) {
    if (this.#drag || this.#isChanged) return;
    const isOn = this.#callbacks.isOn();
    this.#box.hidden = frame === null && !isOn;
    this.#sheet.classList.toggle("framing", isOn);
    this.#sheet.classList.toggle("framed", isChosen && frame !== null);
    for (const slider of this.#sliders) slider.tabIndex = isOn ? 0 : -1;
    this.#place(frame ?? WHOLE);
  }

  /** @param {Frame} frame */
  #place(frame) {
    this.#frame = frame;
    for (const edge of EDGES) this.#box.style.setProperty(`--${edge}`, `${(Math.min(PAPER, Math.max(0, frame[edge])) / PAPER) * 100}%`);
    for (const slider of this.#sliders) {
      const edge = /** @type {Edge} */ (slider.dataset.edges);
      slider.setAttribute("aria-valuenow", String(Math.round((frame[edge] / PAPER) * 100)));
      slider.setAttribute("aria-valuetext", this.#callbacks.describe(edge, frame[edge]));
    }
  }

  /** Move an edge, which stays on the paper and on its side. @param {Edge} edge @param {number} value */
  #moveEdge(edge, value) {
    const other = this.#frame[OPPOSITE[edge]];
    const isLow = edge === "left" || edge === "top";
    const [low, high] = isLow ? [0, Math.max(0, other - LEAST)] : [Math.min(PAPER, other + LEAST), PAPER];
    this.#isChanged = true;
    this.#place({ ...this.#frame, [edge]: Math.min(high, Math.max(low, value)) });
  }

  #choose() {
    if (!this.#isChanged) return;
    this.#isChanged = false;
    this.#callbacks.chosen(this.#frame);
  }

  /** @param {PointerEvent} event */
  #began(event) {
    if (!this.#callbacks.isOn() || this.#drag || event.button !== 0) return;
    const handle = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[data-edges]"));
    const edges = /** @type {Edge[]} */ (handle?.dataset.edges?.split(" ") ?? []);
    this.#drag = { pointer: event.pointerId, edges, start: edges.length ? null : this.#callbacks.toPaper(event) };
    this.#sheet.setPointerCapture(event.pointerId);
    this.#sheet.classList.add("dragging");
  }

  /** @param {PointerEvent} event */
  #dragged(event) {
    if (event.pointerId !== this.#drag?.pointer) return;
    const [x, y] = this.#callbacks.toPaper(event).map((value) => Math.min(PAPER, Math.max(0, value)));
    const { edges, start } = this.#drag;
    for (const edge of edges) this.#moveEdge(edge, edge === "left" || edge === "right" ? x : y);
    if (start && Math.min(Math.abs(x - start[0]), Math.abs(y - start[1])) >= LEAST) {
      const [left, right] = [x, start[0]].sort((a, b) => a - b);
      const [top, bottom] = [y, start[1]].sort((a, b) => a - b);
      this.#isChanged = true;
      this.#place({ left, top, right, bottom });
    }
  }

  #dropped() {
    this.#drag = null;
    this.#sheet.classList.remove("dragging");
    this.#choose();
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    const edge = /** @type {Edge} */ (/** @type {HTMLElement} */ (event.target).dataset.edges);
    if (!(event.key in ARROWS) || event.ctrlKey || event.metaKey || event.altKey) return;
    this.#moveEdge(edge, this.#frame[edge] + ARROWS[event.key] * (event.shiftKey ? FINE : STEP));
    event.preventDefault();
  }
}
