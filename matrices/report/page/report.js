// Sorts a table by the column whose heading is pressed. Without it every table is there, in the order of the report.
"use strict";
for (const table of document.querySelectorAll("main table")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = (row) => row.cells[place].textContent.trim();
      const key = (row) => Number.parseFloat(text(row).replace(/^\+/, ""));
      const compare = (one, other) => {
        const [a, b] = [key(one), key(other)];
        if (Number.isNaN(a) !== Number.isNaN(b)) return Number.isNaN(a) ? 1 : -1;
        const by = Number.isNaN(a) ? text(one).localeCompare(text(other)) : a - b;
        return down ? -by : by;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
