/**
 * @file What the model knows, to search in, and what one might draw.
 */
import { readable } from "./words.js";

/** @param {string} text Case, accents, full width and underscores make no difference to a search. */
const plain = (text) => text.normalize("NFKD").replace(/[\p{M}_\s-]+/gu, "").toLocaleLowerCase();

export class Known {
  /** @type {{name: string, key: string, item: HTMLElement}[]} */
  #all = [];
  #found;
  #count;

  /**
   * @param {object} where
   * @param {HTMLInputElement} where.search
   * @param {HTMLElement} where.list
   * @param {HTMLElement} where.found
   * @param {(shown: number, all: number) => string} count in words
   */
  constructor({ search, list, found }, count) {
    this.#found = found;
    this.#count = count;
    this.search = search;
    this.list = list;
    search.addEventListener("input", () => this.filter());
  }

  /** @param {string[]} names */
  fill(names) {
    const order = new Intl.Collator(undefined, { numeric: true });
    this.#all = [...names].sort(order.compare).map((name) => {
      const item = document.createElement("li");
      item.textContent = readable(name);
      return { name, key: plain(name), item };
    });
    this.list.replaceChildren(...this.#all.map(({ item }) => item));
    this.filter();
  }

  filter() {
    const sought = plain(this.search.value);
    let shown = 0;
    for (const { key, item } of this.#all) {
      item.hidden = !key.includes(sought);
      shown += item.hidden ? 0 : 1;
    }
    this.#found.textContent = this.#all.length ? this.#count(shown, this.#all.length) : "";
  }

  /** Some names by chance, each once. @param {number} count */
  some(count) {
    const left = this.#all.map(({ name }) => readable(name));
    const taken = Math.min(count, left.length);
    return Array.from({ length: taken }, () => left.splice(Math.floor(Math.random() * left.length), 1)[0]);
  }
}
