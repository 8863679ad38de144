// What every page does: boxes that scroll can be reached by keyboard, tables can be taken along, figures open on tap.

/** The texts of a table, row by row, in full where the page rounds; a cell over several is repeated. */
function cells(table) {
  const grid = [...table.rows].map(() => []);
  [...table.rows].forEach((row, i) => {
    for (const cell of row.cells) {
      let j = 0;
      while (grid[i][j] !== undefined) j++;
      const text = cell.querySelector("data")?.value ?? cell.textContent.trim();
      for (let down = 0; down < cell.rowSpan && i + down < grid.length; down++) {
        for (let right = 0; right < cell.colSpan; right++) grid[i + down][j + right] = text;
      }
    }
  });
  return grid;
}

function csv(table) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return cells(table).map((row) => row.map(quoted).join(",")).join("\n");
}

const page = location.pathname.split("/").at(-1).replace(".html", "");
document.querySelectorAll("table.dataframe, .output_html table").forEach((table, number) => {
  const link = Object.assign(document.createElement("a"), {className: "csv", textContent: "CSV", href: "#"});
  link.download = `${page}-${number + 1}.csv`;
  link.setAttribute("aria-label", `CSV of table ${number + 1}`);
  link.addEventListener("click", () => {
    link.href = URL.createObjectURL(new Blob([csv(table)], {type: "text/csv"}));
  });
  table.closest(".output_area, section, main").append(link);
  const first = [...(table.tBodies[0]?.rows[0]?.cells ?? [])]; // words stand under their heading
  for (const row of table.tHead?.rows ?? []) {
    if (row.cells.length !== first.length) continue;
    first.forEach((cell, i) => row.cells[i].toggleAttribute("data-words", "words" in cell.dataset));
  }
});

function reach() {
  for (const box of document.querySelectorAll(".scrolls, pre, .output_area, .formula")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
addEventListener("resize", reach);
document.addEventListener("toggle", reach, true);
reach();

const shown = document.createElement("dialog");
shown.setAttribute("aria-label", "figure, as large as it is");
shown.addEventListener("click", () => shown.close());
document.body.append(shown);
for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => {
    const close = Object.assign(document.createElement("button"), {textContent: "close", type: "button"});
    const box = Object.assign(document.createElement("div"), {className: "scrolls", tabIndex: 0});
    box.append(button.firstElementChild.cloneNode());
    shown.replaceChildren(close, box);
    shown.showModal();
  });
}

const all = document.getElementById("all-code");
all?.addEventListener("click", () => {
  const open = all.getAttribute("aria-pressed") !== "true";
  all.setAttribute("aria-pressed", open);
  for (const box of document.querySelectorAll("details.code")) box.open = open;
});
