/**
 * @file Pictures as something to send: a file that the server reads goes as it is, of any other what the browser shows.
 *
 * @typedef {import("./sketch.js").Picture} Picture
 */
import { contextOf, toPng } from "./dom.js";

/** Largest side of a picture that is sent as the browser shows it. */
const SHOWN_PX = 1024;

/** Larger SVG files are not drawn. */
const LARGEST_SVG_BYTES = 8 * 2 ** 20;

const HEAD_BYTES = 16;

/** How the files begin that every server reads; a point stands for any byte. */
const READ_BY_SERVERS = [/^\xff\xd8\xff/, /^\x89PNG\r\n\x1a\n/, /^GIF8/, /^BM/, /^II[*+]\0/, /^MM\0[*+]/, /^RIFF[^]{4}WEBP/];

/** @param {Blob} file */
async function isReadByServers(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer()));
  return READ_BY_SERVERS.some((signature) => signature.test(head));
}

/** @param {string} address @returns {Promise<HTMLImageElement>} */
async function loadImage(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

/** Pixels of what the browser shows, of bounded size. @param {HTMLImageElement | ImageBitmap} image @returns {HTMLCanvasElement} */
function toCanvas(image) {
  const [width, height] =
    image instanceof HTMLImageElement ? [image.naturalWidth, image.naturalHeight] : [image.width, image.height];
  const scale = Math.min(1, SHOWN_PX / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = contextOf(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** A length in pixels; percentages and missing ones are none. @param {string} text */
function toLength(text) {
  const length = Number.parseFloat(text);
  return length > 0 && !text.trim().endsWith("%") ? length : null;
}

/** What may stand before an SVG's first tag, and that tag. */
const SVG_ROOT = /^(?:\ufeff|\s|<\?(?:(?!\?>)[^])*\?>|<!--(?:(?!-->)[^])*-->|<!DOCTYPE(?:[^>[]|\[[^\]]*\])*>)*(<(?:[\w.-]+:)?svg(?=[\s/>])(?:[^>"']|"[^"]*"|'[^']*')*>)/i;

/** @param {string} name */
const attribute = (name) => new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`);

/**
 * An SVG whose size every browser knows: some draw none that has only a viewBox. Only its first tag is read, as text, so
 * that nothing in it comes to life.
 *
 * @param {string} text
 * @returns {string | null} null where it isn't one
 */
function sizeSvg(text) {
  const root = SVG_ROOT.exec(text)?.[1];
  if (!root) return null;
  const [width, height, viewBox] = ["width", "height", "viewBox"].map((name) => attribute(name).exec(root)?.slice(1).join("") ?? "");
  const box = viewBox.trim().split(/[\s,]+/).map(Number);
  const isBox = box.length === 4 && box[2] > 0 && box[3] > 0;
  const [across, down] = [toLength(width), toLength(height)];
  const ratio = across && down ? across / down : isBox ? box[2] / box[3] : 1;
  const size = {
    width: Math.min(SHOWN_PX, SHOWN_PX * ratio),
    height: Math.min(SHOWN_PX, SHOWN_PX / ratio),
    ...(!isBox && across && down && { viewBox: `0 0 ${across} ${down}` }),
  };
  let sized = root;
  for (const [name, value] of Object.entries(size)) {
    sized = sized.replace(attribute(name), "").replace(/svg/i, `$& ${name}="${value}"`);
  }
  return text.replace(root, () => sized);
}

/** An <img> runs no scripts and loads nothing, so that a foreign SVG can only draw. @param {Blob} file */
async function readSvg(file) {
  const isText = /^(?:\ufeff)?\s*</.test(await file.slice(0, HEAD_BYTES).text());
  const svg = isText && file.size <= LARGEST_SVG_BYTES ? sizeSvg(await file.text()) : null;
  if (svg === null) throw new TypeError("this is no SVG");
  // of a blob's address some browsers would give no pixels back where the SVG holds HTML
  return toCanvas(await loadImage(`data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`));
}

/** What only an <img> shows, such as HEIC in some browsers. @param {Blob} file */
async function readImage(file) {
  const address = URL.createObjectURL(file);
  try {
    return toCanvas(await loadImage(address));
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** @param {Blob} file */
const readBitmap = async (file) => toCanvas(await createImageBitmap(file, { imageOrientation: "from-image" }));

/** @param {Blob} file @returns {Promise<HTMLCanvasElement | null>} null where the browser can't read it */
async function decode(file) {
  for (const read of [readSvg, readBitmap, readImage]) {
    try {
      return await read(file);
    } catch {
      // the next one may
    }
  }
  return null;
}

/**
 * A file as a picture. What neither the server surely reads nor the browser is sent as it is: the server says what it is.
 *
 * @param {File} file
 * @returns {Promise<Picture>}
 */
export async function toPicture(file) {
  if (await isReadByServers(file)) {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
    return { file, name: file.name, bitmap };
  }
  const shown = await decode(file);
  if (shown === null) return { file, name: file.name, bitmap: null };
  return { file: await toPng(shown), name: file.name, bitmap: await createImageBitmap(shown) };
}
