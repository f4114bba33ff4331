/**
 * @file Pictures that are pasted, dropped or chosen.
 *
 * @typedef {import("./sketch.js").Picture} Picture
 */
import { toPicture } from "./formats.js";

/** @param {DataTransfer | null} data @returns {File | null} */
const firstFile = (data) => [...(data?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? data?.files[0] ?? null;

/**
 * Take pictures from everywhere.
 *
 * @param {object} where
 * @param {HTMLElement} where.button
 * @param {HTMLInputElement} where.chooser
 * @param {HTMLElement} where.veil covers the page while a file is dragged over it
 * @param {(picture: Picture) => void} place called with each picture
 */
export function receivePictures({ button, chooser, veil }, place) {
  /** @param {File | null | undefined} file */
  const take = async (file) => {
    if (file) place(await toPicture(file));
  };
  button.addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    take(chooser.files?.[0]);
    chooser.value = ""; // the same file can be chosen again
  });
  addEventListener("paste", (event) => take(firstFile(event.clipboardData)));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    veil.classList.toggle("shown", event.dataTransfer?.types.includes("Files"));
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.classList.remove("shown");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    veil.classList.remove("shown");
    take(firstFile(event.dataTransfer));
  });
}
