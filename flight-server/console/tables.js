// The tables of the lake, by layer: a click asks for a table's rows, an arrow shows its columns.

import { element, failure, grouped, link } from "./elements.js";

/** What people look for first is first. */
const LAYERS = ["gold", "silver", "bronze", "seeds", "lakebed"];

const LISTED =
  "SELECT table_schema AS layer, table_name AS name FROM information_schema.tables" +
  " WHERE table_schema <> 'information_schema'";
const ROWS =
  "SELECT model AS name, rows FROM lakebed.watermarks" +
  " UNION ALL SELECT 'bronze.events', sum(events) FROM lakebed.versions";
const DESCRIPTIONS = "SELECT model AS name, description FROM lakebed.models ORDER BY model";

/** A table's name as a statement has it. */
export function quoted(table) {
  const part = (name) => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`);
  return table.split(".").map(part).join(".");
}

/** The list beside the page. */
export class Tables {
  #lake;
  #choose;
  #about;
  #failed = document.querySelector("#unlisted");
  #list = document.querySelector("#tables");
  #filter = document.querySelector("#filter");
  /** By name: the line, and where its count of rows is. */
  #lines = new Map();
  /** Names and descriptions as they are drawn. */
  #drawn = "";
  /** Which of the readings is the last one. */
  #reading = 0;

  /** `choose` and `about` are given a table's name. */
  constructor(lake, { choose, about }) {
    this.#lake = lake;
    this.#choose = choose;
    this.#about = about;
    this.#filter.addEventListener("input", () => this.#narrow());
  }

  /** Reads the list again; where it is what it was, only the counts are new. */
  async refresh() {
    const reading = (this.#reading += 1);
    try {
      const lists = [LISTED, ROWS, DESCRIPTIONS].map((sql) => this.#lake.list(sql));
      const [tables, rows, descriptions] = await Promise.all(lists);
      if (reading !== this.#reading) return;
      const names = tables.map(({ layer, name }) => `${layer}.${name}`).sort();
      const drawn = JSON.stringify([names, descriptions]);
      if (drawn !== this.#drawn) this.#draw(names, new Map(descriptions.map((row) => [row.name, row.description])));
      this.#drawn = drawn;
      const counts = new Map(rows.map((row) => [row.name, grouped(row.rows)]));
      for (const [name, { count }] of this.#lines) count.textContent = counts.get(name) ?? "";
      this.#failed.replaceChildren();
    } catch (error) {
      if (reading === this.#reading) this.#failed.replaceChildren(failure(error));
    }
  }

  #draw(names, descriptions) {
    this.#lines = new Map(names.map((name) => [name, this.#line(name, descriptions.get(name))]));
    const place = (layer) => (LAYERS.includes(layer) ? LAYERS.indexOf(layer) : LAYERS.length);
    const layers = [...new Set(names.map((name) => name.split(".")[0]))].sort((a, b) => place(a) - place(b));
    const section = (layer) => {
      const lines = names.filter((name) => name.startsWith(`${layer}.`)).map((name) => this.#lines.get(name).line);
      return element("section", { "aria-label": layer }, element("h2", {}, layer), element("ul", {}, ...lines));
    };
    this.#list.replaceChildren(...layers.map(section));
    this.#narrow();
  }

  #line(name, description) {
    const short = name.slice(name.indexOf(".") + 1);
    const count = element("span", { class: "count" });
    const inside = element("div", { class: "inside", hidden: "" });
    const toggle = async () => {
      inside.hidden = !inside.hidden;
      arrow.setAttribute("aria-expanded", String(!inside.hidden));
      if (!inside.hidden) inside.replaceChildren(...(await this.#inside(name, description)));
    };
    const columns = { class: "arrow", "aria-expanded": "false", "aria-label": `Columns of ${name}`, click: toggle };
    const arrow = element("button", columns);
    const choose = { class: "name", title: description ?? name, "aria-label": name, click: () => this.#choose(name) };
    const line = element("div", { class: "line" }, arrow, element("button", choose, short), count);
    return { line: element("li", {}, line, inside), count };
  }

  /** What is under a table's arrow. */
  async #inside(name, description) {
    try {
      const { columns } = await this.#lake.ask(`SELECT * FROM ${quoted(name)} LIMIT 0`);
      const column = (of) => element("li", {}, of.name, element("small", {}, of.type.toLowerCase()));
      return [
        element("p", { class: "note" }, description),
        element("ul", { class: "columns" }, ...columns.map(column)),
        link(`About ${name}`, () => this.#about(name)),
      ];
    } catch (error) {
      return [failure(error)];
    }
  }

  #narrow() {
    const wanted = this.#filter.value.trim().toLowerCase();
    for (const [name, { line }] of this.#lines) line.hidden = !name.toLowerCase().includes(wanted);
    for (const section of this.#list.querySelectorAll("section")) {
      section.hidden = !section.querySelector("li:not([hidden]) .line");
    }
  }
}
