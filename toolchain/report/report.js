"use strict";
for (const table of document.querySelectorAll("table.sorted")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const value = (row) => row.cells[place].textContent.trim();
      const number = (text) => parseFloat(text.replaceAll(",", ""));
      const compared = (a, b) => number(a) - number(b) || a.localeCompare(b, undefined, { numeric: true });
      const rows = [...table.tBodies[0].rows].sort((a, b) => compared(value(a), value(b)) * (down ? -1 : 1));
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...rows);
    });
  });
}
for (const figure of document.querySelectorAll(".plots figure")) {
  const show = (event) => {
    const tip = event.target.closest(".tip");
    if (tip) figure.querySelector("figcaption").textContent = tip.querySelector("title").textContent;
  };
  figure.addEventListener("click", show);
  figure.addEventListener("pointerover", show);
}
