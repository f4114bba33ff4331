/**
 * @file The tools beside the paper and their keys.
 *
 * @typedef {import("./pen.js").Tool} Tool
 */
import { byId } from "./dom.js";

/** How much wider the eraser is than the pen. */
const ERASER = 2.5;

export class Tools {
  #erase = false;
  #changed;
  #width = /** @type {HTMLInputElement} */ (byId("width"));

  /** @param {(word: string) => void} changed called with the word for the tool that was taken */
  constructor(changed) {
    this.#changed = changed;
    byId("pen").addEventListener("click", () => this.take(false));
    byId("eraser").addEventListener("click", () => this.take(true));
    this.#width.addEventListener("input", () => this.#showWidth());
    this.#showWidth();
  }

  /** @returns {Tool} */
  get tool() {
    const pen = Number(this.#width.value);
    return { erase: this.#erase, pen: this.#erase ? pen * ERASER : pen };
  }

  /** @param {boolean} erase */
  take(erase) {
    this.#erase = erase;
    byId("pen").setAttribute("aria-pressed", String(!erase));
    byId("eraser").setAttribute("aria-pressed", String(erase));
    this.#changed(erase ? "eraser" : "pen");
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

/** @param {EventTarget | null} target */
const isTyping = (target) => target instanceof HTMLInputElement && target.type !== "range";

/**
 * Which key does what, wherever the focus is but in a field.
 *
 * @param {Tools} tools
 * @param {Record<"undo" | "redo" | "clear", () => void>} act
 */
export function followKeys(tools, act) {
  /** @type {Record<string, () => void>} */
  const plain = {
    e: () => tools.take(true),
    p: () => tools.take(false),
    "[": () => tools.widen(-2),
    "]": () => tools.widen(2),
    delete: act.clear,
  };
  /** @type {Record<string, () => void>} */
  const held = { z: act.undo, y: act.redo, "shift+z": act.redo };
  addEventListener("keydown", (event) => {
    if (isTyping(event.target) || event.altKey) return;
    const isHeld = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    const action = isHeld ? held[event.shiftKey ? `shift+${key}` : key] : plain[key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
