/**
 * @file The answer in the page. Rows are kept and filled anew, so that bars move instead of blinking.
 *
 * @typedef {import("./api.js").Answer} Answer
 * @typedef {import("./api.js").Guess} Guess
 * @typedef {import("./api.js").Near} Near
 * @typedef {import("./api.js").Sure} Sure
 */
import { byId } from "./dom.js";
import { chance, number, percent, readable, words } from "./words.js";

/** Of fewer drawings no share of right answers is told. */
const FEWEST = 10;

/** @param {string} tag @param {string} name @returns {any} */
function element(tag, name) {
  const made = document.createElement(tag);
  made.className = name;
  return made;
}

/** Make a list as long as what it shows. @param {HTMLElement} list @param {number} length @param {() => HTMLElement} make */
function resize(list, length, make) {
  while (list.children.length < length) list.append(make());
  while (list.children.length > length) list.lastElementChild?.remove();
}

function makeBar() {
  const row = element("li", "bar");
  row.append(element("span", "name"), element("span", "chance"), element("i", "rail"));
  row.lastElementChild.setAttribute("aria-hidden", "true");
  return row;
}

function makeNear() {
  const [item, picture] = [element("li", "near"), element("img", "picture")];
  picture.alt = "";
  item.append(picture, element("span", "name"));
  return item;
}

/** @param {Guess[]} top */
function showBars(top) {
  const list = byId("bars");
  resize(list, top.length, makeBar);
  for (const [place, { class_name, probability }] of top.entries()) {
    const [name, said, rail] = list.children[place].children;
    name.textContent = readable(class_name);
    said.textContent = chance(probability);
    rail.style.setProperty("--part", String(probability));
  }
}

/** @param {Near[]} nearest */
function showNearest(nearest) {
  byId("nearest").hidden = nearest.length === 0;
  resize(byId("near"), nearest.length, makeNear);
  for (const [place, { class_name, image }] of nearest.entries()) {
    const [picture, name] = byId("near").children[place].children;
    if (picture.src !== image) picture.src = image;
    name.textContent = readable(class_name);
  }
}

/** What is measured of answers this sure. @param {Sure} sure */
function measured({ accuracy, low, high, count }) {
  if (accuracy === null || low === null || high === null) return words().unmeasured;
  if (count < FEWEST) return words().measured_few(number(count));
  const shown = { accuracy: percent(accuracy), low: percent(Math.floor(100 * low) / 100), high: percent(high) };
  return words().measured({ ...shown, count: number(count) });
}

/** @param {Answer} answer */
export function showAnswer({ top, sure, nearest, took_ms, model_ms }) {
  const isBlank = sure.words === "blank";
  const isDoubted = sure.words === "unsure" || sure.words === "guess";
  byId("best").textContent = isBlank || top.length === 0 ? "" : readable(top[0].class_name);
  byId("best").classList.toggle("doubted", isDoubted);
  byId("sure").textContent = words().sure[sure.words] ?? sure.text;
  byId("measured").textContent = isBlank ? "" : measured(sure);
  showBars(isBlank ? [] : top);
  showNearest(isBlank ? [] : nearest ?? []);
  byId("took").textContent = words().took(number(Math.round(took_ms)), model_ms === null ? null : number(Math.round(model_ms)));
}

/** The answer for those who listen. @param {Answer} answer */
export function spoken({ top, sure }) {
  const said = words().sure[sure.words] ?? sure.text;
  if (sure.words === "blank" || top.length === 0) return said;
  return words().spoken(readable(top[0].class_name), percent(top[0].probability), said);
}
