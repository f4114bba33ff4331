/**
 * @file The page's words in the reader's language. `data-word`, `data-label` and `data-placeholder` in the page name them.
 *
 * @typedef {typeof english} Words
 * @typedef {"en" | "ko"} Language
 */
import { all, keep, kept } from "./dom.js";
import { english } from "./english.js";
import { korean } from "./korean.js";

/** @type {Record<Language, Words>} */
const LANGUAGES = { en: english, ko: korean };
const KEPT = "inkfold.language";

/** @type {Language} */
let language = "en";

/** @returns {Language} */
function preferred() {
  const known = [kept(KEPT), ...navigator.languages].map((code) => (code ?? "").slice(0, 2)).find((code) => code in LANGUAGES);
  return /** @type {Language} */ (known ?? "en");
}

/** @returns {Words} */
export const words = () => LANGUAGES[language];

/** Names in the data often join their words. @param {string} name */
export const readable = (name) => name.replaceAll("_", " ");

/** @param {number} value @param {number} [digits] */
export const percent = (value, digits = 0) =>
  new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits }).format(value);

/** A probability that is not quite 0 or 1 is not said to be. @param {number} value */
export function chance(value) {
  if (value > 0.99 && value < 1) return `>${percent(0.99)}`;
  return value < 0.01 && value > 0 ? `<${percent(0.01)}` : percent(value);
}

/** @param {number} value */
export const number = (value) => new Intl.NumberFormat(language).format(value);

/** Name the buttons, each with its shortcut while that works. */
export function retitle() {
  /** @type {Record<string, string>} */
  const said = /** @type {any} */ (words());
  for (const button of all("button[data-label]")) {
    const label = button.dataset.label ?? "";
    const title = button.hasAttribute("aria-keyshortcuts") ? said[`${label}_title`] : undefined;
    button.title = title ?? said[label];
  }
}

/** Put the words into the page. @param {Language} chosen */
function translate(chosen) {
  language = chosen;
  document.documentElement.lang = chosen;
  /** @type {Record<string, string>} */
  const said = /** @type {any} */ (words());
  for (const element of all("[data-word]")) element.textContent = said[element.dataset.word ?? ""];
  for (const element of all("[data-label]")) element.setAttribute("aria-label", said[element.dataset.label ?? ""]);
  retitle();
  for (const element of all("[data-placeholder]")) element.setAttribute("placeholder", said[element.dataset.placeholder ?? ""]);
  for (const element of all("[data-language]")) element.setAttribute("aria-pressed", String(element.dataset.language === chosen));
}

/** Speak the reader's language, and another where one is chosen. @param {() => void} changed */
export function followLanguage(changed) {
  for (const button of all("[data-language]")) {
    button.addEventListener("click", () => {
      const chosen = /** @type {Language} */ (button.dataset.language);
      keep(KEPT, chosen);
      translate(chosen);
      changed();
    });
  }
  translate(preferred());
}
