/**
 * @file When to ask. At most one question is under way; what is drawn meanwhile is asked next, as it is then, so that a slow
 * server gets no queue and an old answer never follows a newer one.
 *
 * @typedef {import("./ask.js").Input} Input
 * @typedef {import("./ask.js").Answer} Answer
 * @typedef {{kind: "idle"} | {kind: "asking"} | {kind: "answered", answer: Answer}
 *   | {kind: "failed", error: AskError, again_s: number | null}} Stage again_s is null where asking again would be in vain.
 */
import { AskError } from "./ask.js";

/** Between the starts of two questions: quick enough to seem alive, slow enough for a small server. */
const PAUSE_MS = 120;

/** Waits after the first, second... failure that may pass. */
const WAITS_S = [1, 2, 4, 8, 15];

export class Asker {
  #current;
  #ask;
  #told;
  /** @type {AbortController | null} */
  #busy = null;
  #stale = false;
  #timer = 0;
  /** Before this time nothing is asked. */
  #earliest_ms = 0;
  #failures = 0;

  /**
   * @param {object} how
   * @param {() => Promise<Input | null>} how.current what is on the paper now; null if nothing
   * @param {(input: Input, signal: AbortSignal) => Promise<Answer>} how.ask
   * @param {(stage: Stage) => void} how.told
   */
  constructor({ current, ask, told }) {
    this.#current = current;
    this.#ask = ask;
    this.#told = told;
  }

  /**
   * Something changed.
   *
   * @param {boolean} replaced whether what is being asked about is gone, so that its answer would be wrong
   */
  touch(replaced) {
    this.#stale = true;
    if (replaced) {
      this.#failures = 0;
      this.#earliest_ms = 0;
      this.#busy?.abort();
    }
    this.#plan();
  }

  /** Ask now, whatever was to be waited for. */
  again() {
    this.touch(true);
  }

  #plan() {
    clearTimeout(this.#timer);
    if (!this.#busy) this.#timer = setTimeout(() => this.#run(), Math.max(0, this.#earliest_ms - performance.now()));
  }

  async #run() {
    const control = new AbortController();
    this.#busy = control;
    this.#stale = false;
    this.#earliest_ms = performance.now() + PAUSE_MS;
    try {
      const input = await this.#current();
      if (input) await this.#question(input, control.signal);
      else this.#told({ kind: "idle" });
    } catch (error) {
      if (!control.signal.aborted) this.#fail(error);
    } finally {
      this.#busy = null;
      if (this.#stale) this.#plan();
    }
  }

  /** @param {Input} input @param {AbortSignal} signal */
  async #question(input, signal) {
    this.#told({ kind: "asking" });
    const answer = await this.#ask(input, signal);
    if (signal.aborted) return;
    this.#failures = 0;
    this.#told({ kind: "answered", answer });
  }

  /** @param {unknown} error */
  #fail(error) {
    const known = error instanceof AskError ? error : new AskError("failed", String(error));
    const wait_s = known.retry_s ?? WAITS_S[Math.min(this.#failures, WAITS_S.length - 1)];
    this.#failures += 1;
    this.#told({ kind: "failed", error: known, again_s: known.passes ? wait_s : null });
    if (!known.passes) return;
    this.#earliest_ms = performance.now() + wait_s * 1000;
    this.#stale = true;
  }
}
