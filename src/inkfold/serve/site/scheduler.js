/**
 * @file When to send a request. At most one is under way; what is drawn meanwhile is sent next, as it is then, so that a slow
 * server gets no queue and an old answer never follows a newer one.
 *
 * @typedef {import("./api.js").Input} Input
 * @typedef {import("./api.js").Answer} Answer
 * @typedef {{kind: "idle"} | {kind: "asking"} | {kind: "answered", answer: Answer}
 *   | {kind: "failed", error: ApiError, again_s: number | null}} Stage again_s is null where trying again would be in vain.
 */
import { ApiError } from "./api.js";

/** Between the starts of two requests: short enough to feel live, long enough for a small server. */
const PAUSE_MS = 120;

/** Waits after the first, second... failure that may pass by itself. */
const WAITS_S = [1, 2, 4, 8, 15];

export class Scheduler {
  #current;
  #send;
  #report;
  /** @type {AbortController | null} */
  #busy = null;
  #stale = false;
  #timer = 0;
  /** Before this time nothing is sent. */
  #earliest_ms = 0;
  #failures = 0;

  /**
   * @param {object} callbacks
   * @param {() => Promise<Input | null>} callbacks.current what is on the paper now; null if nothing
   * @param {(input: Input, signal: AbortSignal) => Promise<Answer>} callbacks.send
   * @param {(stage: Stage) => void} callbacks.report called with every new stage
   */
  constructor({ current, send, report }) {
    this.#current = current;
    this.#send = send;
    this.#report = report;
  }

  /**
   * Something changed.
   *
   * @param {boolean} replaced whether what was sent is gone from the paper, so that its answer would be wrong
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

  /** Send now, without any wait that was left. */
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
      if (input) await this.#request(input, control.signal);
      else this.#report({ kind: "idle" });
    } catch (error) {
      if (!control.signal.aborted) this.#fail(error);
    } finally {
      this.#busy = null;
      if (this.#stale) this.#plan();
    }
  }

  /** @param {Input} input @param {AbortSignal} signal */
  async #request(input, signal) {
    this.#report({ kind: "asking" });
    const answer = await this.#send(input, signal);
    if (signal.aborted) return;
    this.#failures = 0;
    this.#report({ kind: "answered", answer });
  }

  /** @param {unknown} error */
  #fail(error) {
    if (!(error instanceof ApiError)) console.error(error);
    const known = error instanceof ApiError ? error : new ApiError("failed");
    const wait_s = known.retry_s ?? WAITS_S[Math.min(this.#failures, WAITS_S.length - 1)];
    this.#failures += 1;
    this.#report({ kind: "failed", error: known, again_s: known.passes ? wait_s : null });
    if (!known.passes) return;
    this.#earliest_ms = performance.now() + wait_s * 1000;
    this.#stale = true;
  }
}
