/**
 * @file The page in English.
 *
 * @typedef {import("./api.js").Sureness} Sureness
 * @typedef {import("./api.js").Trouble} Trouble
 */

export const english = {
  skip: "Skip to the paper",
  languages: "Language",
  paper_and_tools: "Paper and tools",
  paper: "Drawing paper",
  draw_here: "Draw here",
  tools: "Tools",
  pen: "Pen",
  pen_title: "Pen (P)",
  eraser: "Eraser",
  eraser_title: "Eraser (E)",
  width: "Width of the line",
  undo: "Undo",
  undo_title: "Undo (Ctrl+Z)",
  redo: "Redo",
  redo_title: "Redo (Ctrl+Y)",
  clear: "Clear the paper",
  clear_title: "Clear the paper (Delete)",
  choose: "Choose a picture",
  or_paste: "or paste or drop one.",
  drop_here: "Drop the picture",
  answer: "Answer",
  others: "Other ideas",
  retry: "Try again now",
  top: "Most likely",
  nearest: "The most similar training drawings",
  knows: "What it knows",
  search: "Search",
  keys: "Keys",
  keyboard:
    "With the paper in focus: arrow keys move a pen (with Shift in small steps), the space bar puts it down and lifts it, Escape puts it away. Anywhere: P pen, E eraser, [ and ] width, Ctrl+Z undo, Ctrl+Y or Ctrl+Shift+Z redo, Delete clears, Ctrl+V pastes a picture.",
  api: "HTTP API",
  pen_down: "Pen down",
  pen_up: "Pen up",
  cleared: "The paper is clear",
  undone: "Undone",
  redone: "Redone",
  waiting: "Waiting for the answer. You can keep drawing.",
  /** @param {string} count @param {number} classes */
  lead: (count, classes) => (classes === 1 ? "It knows one thing." : `Draw one of ${count} things.`),
  lead_unknown: "Draw something.",
  /** @param {string[]} names */
  ideas: (names) => `For instance: ${names.join(", ")}.`,
  /** @param {string} shown @param {string} all */
  found: (shown, all) => (shown === all ? `${all} classes` : `${shown} of ${all} classes`),
  /** @param {string} name */
  unseen: (name) => `${name || "This file"}: the browser can’t show this file.`,
  /** @param {string} name @param {string} chance @param {string} sure */
  spoken: (name, chance, sure) => `${name}, ${chance}. ${sure}`,
  /** @param {string} total @param {string | null} model */
  took: (total, model) => `Answered in ${total} ms${model ? `, ${model} ms of that in the model` : ""}.`,
  /** @param {{value: string, low: string, high: string, of: string}} measured */
  proof: ({ value, low, high, of }) =>
    `It was right on ${value} of ${of === "holdout" ? "drawings held out of its training" : "drawings that it wasn’t trained on"} (95% interval ${low} to ${high}).`,
  /** @param {{accuracy: string, low: string, high: string, count: string}} measured */
  measured: ({ accuracy, low, high, count }) =>
    `When it was this confident before, ${accuracy} of its answers were right (95% interval ${low} to ${high}; ${count} drawings that it wasn’t trained on).`,
  unmeasured: "Nobody has measured how often such answers are right.",
  /** @type {Record<Sureness, string>} */
  sure: {
    almost_certain: "Almost certain.",
    likely: "Likely.",
    unsure: "Unsure.",
    guess: "Only a guess.",
    blank: "Nothing is drawn here.",
  },
  /** @type {Record<Trouble, string>} */
  trouble: {
    busy: "Too many people are using this server at once.",
    not_ready: "The model isn’t ready: it is still loading, or the server is stopping.",
    too_large: "That is too large for this server.",
    unreadable: "The server can’t read this as a drawing.",
    late: "No answer came in time.",
    gone: "The server can’t be reached. Your drawing stays here.",
    failed: "Something went wrong in the server. Your drawing stays here.",
  },
  /** @type {Partial<Record<Trouble, string>>} */
  hint: {
    too_large: "Try a smaller picture, or a simpler drawing.",
    unreadable: "Is it a picture file (PNG, JPEG, WebP, GIF, BMP, TIFF), and complete?",
  },
  /** @param {string} seconds */
  again: (seconds) => `Trying again in ${seconds} s.`,
};
