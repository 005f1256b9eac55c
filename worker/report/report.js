// Sorting, filtering and the language of the headings; the page is whole without it.
const html = document.documentElement;
document.getElementById("language").onclick = () => { html.lang = html.lang === "en" ? "zh" : "en"; };

const collator = new Intl.Collator(undefined, { numeric: true });
const key = (cell) => {
  const text = cell.textContent.trim();
  const number = text.match(/^-?\d+(\.\d+)?/);
  return { text, number: number ? parseFloat(number[0]) : NaN };
};
const compare = (a, b) =>
  a.number - b.number || collator.compare(a.text, b.text); // NaN is falsy: texts, or one number and one text

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const head of table.tHead.rows[0].cells) {
    head.tabIndex = 0;
    head.onkeydown = (event) => { if (event.key === "Enter") head.click(); };
    head.onclick = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = Array.from(body.rows, (row) => [key(row.cells[head.cellIndex]), row]);
      rows.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])));
      body.append(...rows.map(([, row]) => row));
    };
  }
}

const filter = document.getElementById("filter");
if (filter) {
  const rows = Array.from(document.querySelector("#items").tBodies[0].rows, (row) => [row.textContent.toLowerCase(), row]);
  filter.oninput = () => {
    const wanted = filter.value.toLowerCase();
    for (const [text, row] of rows) row.hidden = !text.includes(wanted);
  };
}
