"use strict";
// Without this script tables keep their order and show all rows.
const order = new Intl.Collator(undefined, { numeric: true });
const valueOf = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.v === undefined ? cell.textContent.trim() : cell.dataset.v === "" ? null : Number(cell.dataset.v);
};
const compare = (a, b) => (typeof a === "number" ? a - b : order.compare(a, b));

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.dataset.fixed !== undefined) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
      const known = rows.filter(([value]) => value !== null).sort(([a], [b]) => compare(a, b) * (down ? -1 : 1));
      const unknown = rows.filter(([value]) => value === null);
      table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
    });
  });
}

for (const box of document.querySelectorAll(".search")) {
  const rows = [...document.getElementById(box.dataset.table).tBodies[0].rows];
  const field = box.querySelector("input");
  const count = box.querySelector("output");
  const words = rows.map((row) => (row.querySelector("th") ?? row).textContent.toLowerCase()); // of the class or key alone
  const search = () => {
    const wanted = field.value.trim().toLowerCase();
    rows.forEach((row, i) => { row.hidden = !words[i].includes(wanted); });
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  box.hidden = false;
  field.addEventListener("input", search);
  search();
}
