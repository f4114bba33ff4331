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
  frame: "Frame: what the model sees",
  frame_title: "Frame: what the model sees (F)",
  /** @type {Record<import("./frame.js").Edge, (share: string) => string>} */
  edge: { left: (share) => `${share} from the left`, right: (share) => `${share} from the left`, top: (share) => `${share} from the top`, bottom: (share) => `${share} from the top` },
  frame_edges: "Edges of the frame",
  frame_left: "Left edge",
  frame_top: "Top edge",
  frame_right: "Right edge",
  frame_bottom: "Bottom edge",
  framing: "Frame: drag its corners or edges, or draw a new one.",
  chosen_part: "You chose what the model sees.",
  chosen_page: "All of the paper counts.",
  chosen_picture: "All of the picture counts.",
  cut: "The model sees the part within the frame.",
  /** @param {string} count @param {number} marks */
  outside: (count, marks) => (marks === 1 ? "One mark is outside the frame and doesn’t count." : `${count} marks are outside the frame and don’t count.`),
  count_all: "Count everything",
  automatic: "Automatic frame",
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
  why: "What is this based on?",
  why_waiting: "Erasing one stroke after the other…",
  why_failed: "The server can’t say now what this is based on.",
  /** @param {string} name */
  why_for: (name) => `speaks for ${name}`,
  /** @param {string} name */
  why_against: (name) => `speaks against ${name}`,
  why_neither: "makes no difference",
  /** @param {string} name */
  why_none: (name) => `No single stroke makes a difference to ${name}.`,
  /** @param {string} name @param {string | null} place @param {string} factor */
  why_strongest: (name, place, factor) =>
    `Without the strongest blue stroke${place ? `, ${place},` : ""} ${name} would be ${factor} times less likely.`,
  nearest: "The most similar training drawings",
  knows: "What it knows",
  search: "Search",
  keys: "Keys",
  keyboard:
    "With the paper in focus: arrow keys move a pen (with Shift in small steps), the space bar puts it down and lifts it, Escape puts it away. With the frame as the tool: Tab goes to its edges, arrow keys move them. Anywhere: P pen, E eraser, F frame, [ and ] width, Ctrl+Z undo, Ctrl+Y or Ctrl+Shift+Z redo, Delete clears, Ctrl+V pastes a picture.",
  single_keys: "P, E, F, [ and ] are shortcuts",
  /** @param {string} across @param {string} down */
  place: (across, down) => `${across} from the left, ${down} from the top`,
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
  /** @param {string} count */
  measured_few: (count) => `Too few drawings are left (${count}) to say how often answers this confident are right.`,
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
    locked: "The server no longer knows you. Your drawing stays here.",
    failed: "Something went wrong in the server. Your drawing stays here.",
  },
  /** @type {Partial<Record<Trouble, string>>} */
  hint: {
    too_large: "Try a smaller picture, or a simpler drawing.",
    locked: "Open the link with the token again, as the server printed it.",
    unreadable: "Is it a picture file (PNG, JPEG, WebP, GIF, BMP, TIFF), and complete?",
  },
  /** @type {Record<string, (limits: {pixels: string, mebibytes: string} | null) => string>} by the server's codes */
  finding: {
    empty: () => "The file is empty. Is it still being copied?",
    truncated: () => "The picture is cut short: a part of the file is missing. Copy or download it again.",
    unreadable: () => "The picture file is damaged. Open it elsewhere and save it again as PNG.",
    unsupported: () => "This kind of picture can’t be read here. Save it as PNG or JPEG.",
    not_an_image: () => "This isn’t a picture file. PNG, JPEG, WebP, GIF, BMP and TIFF can be read.",
    too_large: (limits) => `The picture is too large${limits ? `: at most ${limits.pixels} million pixels` : ""}. Try a smaller picture.`,
    body_too_large: (limits) => `The file is too large${limits ? `: at most ${limits.mebibytes} MB` : ""}. Try a smaller picture.`,
  },
  /** @param {string} seconds */
  again: (seconds) => `Trying again in ${seconds} s.`,
};
