// Elements, made of texts alone: nothing that comes from the lake is ever taken for HTML.

/**
 * An element. Attributes that are functions listen to the event of their name; those that are false are left out, and so
 * are children that are null or undefined.
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child ?? false));
  return made;
}

/**
 * Rows in a frame that scrolls, by the keyboard too.
 *
 * @param {{name: string, type?: string, isNumber?: boolean}[]} columns
 * @param cell makes a `td` of a value and its column
 */
export function grid(label, columns, rows, cell = plain) {
  const type = (text) => text && element("small", {}, text.toLowerCase());
  const title = (of) => element("th", { scope: "col", ...aligned(of) }, of.name, type(of.type));
  const line = (row) => element("tr", {}, ...row.map((value, index) => cell(value, columns[index])));
  const head = element("thead", {}, element("tr", {}, ...columns.map(title)));
  const table = element("table", {}, head, element("tbody", {}, ...rows.map(line)));
  return element("div", { class: "grid", tabindex: "0", role: "region", "aria-label": label }, table);
}

/** A cell with a value as it is. */
export function plain(value, column) {
  return element("td", aligned(column), value);
}

function aligned({ isNumber }) {
  return { class: isNumber ? "number" : false };
}

/** What went wrong, in the server's words, and what to do about it. */
export function failure({ message, hint }) {
  const said = [message, hint && `hint: ${hint}`].filter(Boolean);
  return element("div", { class: "failure", role: "alert" }, ...said.map((text) => element("p", {}, text)));
}

/** A link to another place of this page. */
export function link(text, click) {
  return element("button", { class: "link", type: "button", click }, text);
}

/** A number as people read it; none is nothing. */
export function grouped(number) {
  return Number(number ?? 0).toLocaleString("en");
}

/** How long ago a time was, in its largest unit. */
export function ago(time) {
  const passed = Math.max(1, (Date.now() - Date.parse(time.replace(" ", "T"))) / 1000);
  const [unit, size] = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]].find(([, size]) => passed >= size);
  return `${Math.floor(passed / size)} ${unit} ago`;
}
