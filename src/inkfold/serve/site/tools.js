/**
 * @file The tools beside the paper and their keys.
 *
 * @typedef {import("./pen.js").Tool} Tool
 * @typedef {"pen" | "eraser" | "frame"} Taken
 */
import { byId } from "./dom.js";

/** How much wider the eraser is than the pen. */
const ERASER = 2.5;

/** @type {readonly Taken[]} */
const TOOLS = ["pen", "eraser", "frame"];

export class Tools {
  /** @type {Taken} */
  #taken = "pen";
  #changed;
  #width = /** @type {HTMLInputElement} */ (byId("width"));

  /** @param {(taken: Taken) => void} changed called with the tool that was taken, which is its word too */
  constructor(changed) {
    this.#changed = changed;
    for (const tool of TOOLS) byId(tool).addEventListener("click", () => this.take(tool));
    this.#width.addEventListener("input", () => this.#showWidth());
    this.#showWidth();
  }

  /** What draws; null while the frame is the tool. @returns {Tool | null} */
  get tool() {
    if (this.isFraming) return null;
    const pen = Number(this.#width.value);
    return this.#taken === "eraser" ? { erase: true, pen: pen * ERASER } : { erase: false, pen };
  }

  get isFraming() {
    return this.#taken === "frame";
  }

  /** Take a tool; the frame that is taken again is put away for the pen. @param {Taken} tool */
  take(tool) {
    this.#taken = tool === "frame" && this.isFraming ? "pen" : tool;
    for (const each of TOOLS) byId(each).setAttribute("aria-pressed", String(each === this.#taken));
    this.#changed(this.#taken);
  }

  /** @param {number} steps */
  widen(steps) {
    if (steps > 0) this.#width.stepUp(steps);
    else this.#width.stepDown(-steps);
    this.#showWidth();
  }

  #showWidth() {
    byId("dot").style.setProperty("--wide", `${Number(this.#width.value) / 2}px`);
  }
}

/** Fields whose keys aren't shortcuts. @param {EventTarget | null} target */
const isTyping = (target) => target instanceof HTMLInputElement && !["range", "checkbox"].includes(target.type);

/** @type {Record<string, string>} */
const SIGNS = { BracketLeft: "[", BracketRight: "]" };

/**
 * What a key stands for in shortcuts: the letter or sign that it types, and where that isn't a Latin one (Hangul, Cyrillic, an
 * input method that composes), the one on the key.
 *
 * @param {KeyboardEvent} event
 */
function latinKey({ key, code }) {
  const isNamed = key.length > 1 && !["Process", "Unidentified", "Dead"].includes(key);
  if (isNamed || /^[!-~]$/.test(key)) return key.toLowerCase();
  return SIGNS[code] ?? (/^Key[A-Z]$/.test(code) ? code.slice(3).toLowerCase() : "");
}

/** Keys that type a character, and so may be spoken or pressed by accident: they can be turned off (WCAG 2.1.4). */
const CHARACTERS = /^[!-~]$/;

/**
 * Which key does what, wherever the focus is but in a field.
 *
 * @param {Tools} tools
 * @param {Record<"undo" | "redo" | "clear", () => void>} act
 * @param {() => boolean} areOn whether keys that type a character are shortcuts too
 */
export function followKeys(tools, act, areOn) {
  /** @type {Record<string, () => void>} */
  const plain = {
    e: () => tools.take("eraser"),
    f: () => tools.take("frame"),
    p: () => tools.take("pen"),
    "[": () => tools.widen(-2),
    "]": () => tools.widen(2),
    delete: act.clear,
  };
  /** @type {Record<string, () => void>} */
  const held = { z: act.undo, y: act.redo, "shift+z": act.redo };
  addEventListener("keydown", (event) => {
    if (isTyping(event.target) || event.altKey) return;
    const isHeld = event.ctrlKey || event.metaKey;
    const key = latinKey(event);
    if (!isHeld && CHARACTERS.test(key) && !areOn()) return;
    const action = isHeld ? held[event.shiftKey ? `shift+${key}` : key] : plain[key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
