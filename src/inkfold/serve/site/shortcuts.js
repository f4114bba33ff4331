/**
 * @file Whether single keys are shortcuts, as the user likes; remembered. The buttons name their key only while it works.
 */
import { all, byId, keep, kept } from "./dom.js";
import { retitle } from "./words.js";

const KEPT = "inkfold.single_keys";
const OFF = "off";

export class Shortcuts {
  #switch = /** @type {HTMLInputElement} */ (byId("single-keys"));

  constructor() {
    this.#switch.checked = kept(KEPT) !== OFF;
    this.#switch.addEventListener("change", () => {
      keep(KEPT, this.areOn ? "on" : OFF);
      this.#label();
    });
    this.#label();
  }

  get areOn() {
    return this.#switch.checked;
  }

  #label() {
    for (const button of all("[data-key]")) {
      if (this.areOn) button.setAttribute("aria-keyshortcuts", button.dataset.key ?? "");
      else button.removeAttribute("aria-keyshortcuts");
    }
    retitle();
  }
}
