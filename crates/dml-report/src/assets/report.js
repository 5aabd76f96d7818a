"use strict";
(() => {
  // The theme: as the system has it, or the reader's choice, which is remembered where the browser allows that.
  const themes = ["", "light", "dark"];
  const names = { "": "as the system", light: "light", dark: "dark" };
  const button = document.getElementById("theme");
  const remembered = (work) => { try { return work(window.localStorage); } catch { return null; } };
  const show = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    button.textContent = `Theme: ${names[theme]}`;
  };
  let theme = remembered((store) => store.getItem("dml-theme")) || "";
  if (!themes.includes(theme)) theme = "";
  show(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    show(theme);
    remembered((store) => store.setItem("dml-theme", theme));
  });

  // Tables: numbers by value, texts by letters; what has no value stays last.
  const value = (cell) => {
    if (!cell.dataset.value) return null;
    return Number(cell.dataset.value);
  };
  const compare = (column, numeric, sign) => (a, b) => {
    const [x, y] = [a.cells[column], b.cells[column]];
    if (!numeric) return sign * x.textContent.localeCompare(y.textContent, "en", { numeric: true });
    const [p, q] = [value(x), value(y)];
    if (p === null || q === null) return (p === null) - (q === null);
    return sign * (p - q);
  };
  for (const table of document.querySelectorAll("table[data-sorts]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const now = head.getAttribute("aria-sort");
      const next = now === "none" ? (numeric ? "descending" : "ascending") : now === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", other === head ? next : "none"));
      const rows = [...table.tBodies[0].rows].sort(compare(column, numeric, next === "ascending" ? 1 : -1));
      table.tBodies[0].append(...rows);
    }));
  }

  // Galleries: the highest first; once more, the lowest first.
  for (const group of document.querySelectorAll("[data-gallery]")) {
    const list = document.getElementById(group.dataset.gallery);
    const status = group.querySelector("[role=status]");
    const count = status.textContent;
    const buttons = [...group.querySelectorAll("button")];
    buttons.forEach((button) => {
      const label = button.textContent;
      let down = true;
      button.addEventListener("click", () => {
        const key = button.dataset.key;
        const again = button.getAttribute("aria-pressed") === "true";
        down = key !== "order" && !(again && down);
        for (const other of buttons) {
          other.setAttribute("aria-pressed", String(other === button));
          if (other !== button) other.textContent = other.textContent.replace(/ [↓↑]$/, "");
        }
        const sign = down ? -1 : 1;
        const cards = [...list.children].sort((a, b) =>
          sign * (a.dataset[key] - b.dataset[key]) || a.dataset.order - b.dataset.order);
        list.append(...cards);
        const ordered = key === "order";
        button.textContent = ordered ? label : `${label} ${down ? "↓" : "↑"}`;
        status.textContent = ordered ? count : `By ${key}, ${down ? "highest" : "lowest"} first`;
      });
    });
    if (list.children.length > 12) {
      const more = document.createElement("button");
      more.type = "button";
      more.className = "more";
      const say = (short) => {
        list.classList.toggle("short", short);
        more.textContent = short ? `Show all ${list.children.length}` : "Show fewer";
        more.setAttribute("aria-expanded", String(!short));
      };
      more.setAttribute("aria-controls", list.id);
      more.addEventListener("click", () => say(!list.classList.contains("short")));
      list.after(more);
      say(true);
    }
  }
})();
