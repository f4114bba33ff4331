/**
 * @file What the answer is based on: the ink of the drawing, coloured by what each stroke does to the answer, above the paper.
 * It is asked for only while it is wanted, and once an answer has settled, since it costs as much as many answers.
 *
 * @typedef {import("./api.js").Reasons} Reasons
 * @typedef {import("./frame.js").Frame} Frame
 */
import { byId } from "./dom.js";
import { EDGES } from "./frame.js";
import { PAPER } from "./sketch.js";
import { number, readable, words } from "./words.js";

/** Only an answer that has stayed this long is explained. */
const SETTLED_MS = 600;

/** A stroke without which the class is less than so many times less likely isn't worth a sentence. */
const LEAST_FACTOR = 1.1;
const MOST_FACTOR = 1000;

export class Why {
  #ask;
  #say;
  #place;
  #isOn = false;
  /** @type {Reasons | null} */
  #reasons = null;
  /** @type {AbortController | null} */
  #busy = null;
  #timer = 0;
  #hasAnswer = false;

  /**
   * @param {object} callbacks
   * @param {(signal: AbortSignal) => Promise<Reasons | null>} callbacks.ask for what is on the paper; its frames lie on the paper
   * @param {(text: string) => void} callbacks.say
   * @param {(point: [number, number]) => string} callbacks.place where a point of the paper is, in words
   */
  constructor({ ask, say, place }) {
    this.#ask = ask;
    this.#say = say;
    this.#place = place;
    byId("why").addEventListener("click", () => this.#toggle());
  }

  /** There is a new answer. @param {boolean} isBlank */
  answered(isBlank) {
    this.#hasAnswer = !isBlank;
    this.hide();
    if (this.#isOn && this.#hasAnswer) this.#timer = setTimeout(() => this.#run(), SETTLED_MS);
  }

  /** What is on the paper has changed, or isn't answered for. */
  hide() {
    clearTimeout(this.#timer);
    this.#busy?.abort();
    this.#busy = null;
    this.#reasons = null;
    this.#show("");
  }

  /** The same in words of another language. */
  again() {
    if (this.#reasons) this.#show(this.#sentence(this.#reasons));
  }

  #toggle() {
    this.#isOn = !this.#isOn;
    byId("why").setAttribute("aria-pressed", String(this.#isOn));
    this.hide();
    if (this.#isOn && this.#hasAnswer) this.#run();
  }

  async #run() {
    const control = new AbortController();
    this.#busy = control;
    this.#show(words().why_waiting);
    try {
      const reasons = await this.#ask(control.signal);
      if (control.signal.aborted) return;
      this.#reasons = reasons;
      this.#show(reasons ? this.#sentence(reasons) : "");
      if (reasons) this.#say(this.#sentence(reasons));
    } catch {
      if (control.signal.aborted) return;
      this.#show(words().why_failed);
      this.#say(words().why_failed);
    }
  }

  /** The stroke that speaks most for the answer, for those too who don't see colours. @param {Reasons} reasons */
  #sentence({ class_name, strokes }) {
    const [best] = strokes;
    const factor = best ? Math.exp(best.effect) : 1;
    if (!best || factor < LEAST_FACTOR) return words().why_none(readable(class_name));
    const said = factor > MOST_FACTOR ? `>${number(MOST_FACTOR)}` : number(Math.round(factor * 10) / 10);
    const { box } = best;
    const place = box ? this.#place([(box.left + box.right) / 2, (box.top + box.bottom) / 2]) : null;
    return words().why_strongest(readable(class_name), place, said);
  }

  /** @param {string} sentence */
  #show(sentence) {
    const reasons = this.#reasons;
    const image = byId("why-ink");
    byId("why-said").textContent = sentence;
    byId("why-legend").hidden = reasons === null;
    byId("sheet").classList.toggle("explained", reasons !== null);
    image.hidden = reasons === null;
    if (!reasons) return;
    const name = readable(reasons.class_name);
    byId("why-for").textContent = words().why_for(name);
    byId("why-against").textContent = words().why_against(name);
    const bounds = reasons.bounds ?? { left: 0, top: 0, right: PAPER, bottom: PAPER };
    for (const edge of EDGES) {
      const from = edge === "right" || edge === "bottom" ? PAPER - bounds[edge] : bounds[edge];
      image.style.setProperty(edge, `${(100 * from) / PAPER}%`);
    }
    image.style.width = `${(100 * (bounds.right - bounds.left)) / PAPER}%`;
    image.style.height = `${(100 * (bounds.bottom - bounds.top)) / PAPER}%`;
    image.src = reasons.picture;
  }
}
