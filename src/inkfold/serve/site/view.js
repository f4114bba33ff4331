/**
 * @file Which part of the page speaks: ideas, an answer, or what went wrong; and what is said aloud.
 *
 * @typedef {import("./scheduler.js").Stage} Stage
 * @typedef {import("./api.js").Answer} Answer
 * @typedef {import("./api.js").ApiError} ApiError
 */
import { showAnswer, spoken } from "./answers.js";
import { byId } from "./dom.js";
import { number, words } from "./words.js";

/** Shorter waits are not mentioned. */
const SLOW_MS = 1500;

/** While one draws the answer changes often: only one that has stayed this long is said aloud. */
const SETTLED_MS = 900;

/** The pen's place is said once it has rested this long, and while it moves as often as this. */
const RESTS_MS = 500;
const MOVES_MS = 2500;

/** Troubles that another try with the same drawing can't mend. @type {Set<import("./api.js").Trouble>} */
const REFUSED_AGAIN = new Set(["too_large", "unreadable"]);

export class View {
  /** @type {Stage} */
  #stage = { kind: "idle" };
  /** @type {Answer | null} */
  #answer = null;
  /** What a request may hold; null while that is unknown. @type {import("./api.js").Description["limits"] | null} */
  limits = null;
  #slow = 0;
  #settling = 0;
  #resting = 0;
  /** @type {number | null} */
  #moving_since = null;
  #countdown = 0;

  /** @param {Stage} stage */
  show(stage) {
    clearTimeout(this.#slow);
    clearInterval(this.#countdown);
    if (stage.kind === "asking") this.#wait();
    else this.#arrive(stage);
    byId("answer").parentElement.classList.toggle("asking", stage.kind === "asking");
  }

  /** The same in words of another language. */
  again() {
    if (this.#stage.kind === "failed") this.#explain(this.#stage.error, null);
    if (this.#answer) showAnswer(this.#answer);
  }

  /** Say something aloud; answers wait until they have settled. @param {string} text @param {boolean} [now] */
  say(text, now = true) {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => (byId("voice").textContent = text), now ? 0 : SETTLED_MS);
  }

  /** Say where the keyboard's pen is: once it rests, and now and then while it moves. @param {string} text empty once it is gone */
  place(text) {
    clearTimeout(this.#resting);
    const now = performance.now();
    if (this.#moving_since === null || !text) this.#moving_since = text ? now : null;
    const wait_ms = Math.max(0, Math.min(RESTS_MS, (this.#moving_since ?? now) + MOVES_MS - now));
    this.#resting = setTimeout(() => {
      this.#moving_since = null;
      byId("place").textContent = text;
    }, wait_ms);
  }

  #wait() {
    this.#slow = setTimeout(() => {
      byId("took").textContent = words().waiting;
      this.say(words().waiting);
    }, SLOW_MS);
  }

  /** @param {Exclude<Stage, {kind: "asking"}>} stage */
  #arrive(stage) {
    this.#stage = stage;
    if (stage.kind === "answered") {
      this.#answer = stage.answer;
      showAnswer(stage.answer);
      this.say(spoken(stage.answer), false);
    }
    // an old answer stays, faded, under trouble that passes; under other trouble it would belong to nothing
    if (stage.kind === "idle" || (stage.kind === "failed" && !stage.error.passes)) this.#forget();
    if (stage.kind === "failed") this.#explain(stage.error, stage.again_s);
    byId("trouble").hidden = stage.kind !== "failed";
    byId("answer").hidden = this.#answer === null;
    byId("answer").classList.toggle("old", stage.kind === "failed");
    byId("empty").hidden = this.#answer !== null || stage.kind === "failed";
  }

  #forget() {
    this.#answer = null;
    byId("took").textContent = "";
  }

  /** What is wrong with the picture, or what to try. @param {ApiError} error */
  #hint({ code, trouble }) {
    const limits = this.limits && { pixels: number(this.limits.pixels / 1e6), mebibytes: number(this.limits.body_bytes / 2 ** 20) };
    return words().finding[code]?.(limits) ?? words().hint[trouble] ?? "";
  }

  /** @param {ApiError} error @param {number | null} again_s */
  #explain(error, again_s) {
    byId("took").textContent = "";
    byId("trouble-what").textContent = words().trouble[error.trouble];
    byId("trouble-hint").textContent = this.#hint(error);
    byId("retry").hidden = REFUSED_AGAIN.has(error.trouble);
    byId("trouble-when").textContent = "";
    if (again_s === null) return;
    let left_s = Math.ceil(again_s);
    const count = () => (byId("trouble-when").textContent = left_s > 0 ? words().again(number(left_s--)) : "");
    count();
    this.#countdown = setInterval(count, 1000);
  }
}
