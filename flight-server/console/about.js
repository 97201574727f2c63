// All about one table: what it is for, its columns and where they come from, what it reads and who reads it, its SQL.

import { element, failure, grid, link } from "./elements.js";
import { quoted } from "./tables.js";

const MODELS = "SELECT model, description, key, sinks, sql FROM lakebed.models";
const LINEAGE = "SELECT model, reads FROM lakebed.lineage ORDER BY model, reads";
const COLUMNS = 'SELECT model, "column", from_table, from_column, how FROM lakebed.column_lineage';

/** The page about a table. */
export class About {
  #lake;
  #choose;
  #about;
  #section = document.querySelector("#about");
  /** Which of the readings is the last one. */
  #reading = 0;

  constructor(lake, { choose, about }) {
    this.#lake = lake;
    this.#choose = choose;
    this.#about = about;
  }

  async show(name) {
    const reading = (this.#reading += 1);
    let shown;
    try {
      const [{ columns }, ...lists] = await Promise.all([
        this.#lake.ask(`SELECT * FROM ${quoted(name)} LIMIT 0`),
        ...[MODELS, LINEAGE, COLUMNS].map((sql) => this.#lake.list(sql)),
      ]);
      shown = this.#all(name, columns, ...lists);
    } catch (error) {
      shown = [failure(error)];
    }
    if (reading === this.#reading) this.#section.replaceChildren(element("h2", {}, name), ...shown);
  }

  #all(name, columns, models, lineage, sources) {
    const model = models.find((of) => of.model === name);
    const own = sources.filter((source) => source.model === name);
    const links = (tables) => tables.map((table) => link(table, () => this.#about(table)));
    const chosen = own.filter(({ how }) => how === "chosen").map(full);
    const said = [
      ["Key", model?.key],
      ["Kept in", model?.sinks],
      ["Reads", ...links(lineage.filter((of) => of.model === name).map((of) => of.reads))],
      ["Read by", ...links(lineage.filter((of) => of.reads === name).map((of) => of.model))],
      ["Rows chosen by", [...new Set(chosen)].join(", ")],
    ].filter(([, value]) => value);
    return [
      element("p", {}, model?.description),
      element("button", { class: "main", click: () => this.#choose(name) }, "Ask for its rows"),
      element("dl", { class: "said" }, ...said.flatMap(([title, ...of]) => pair(title, of))),
      ofColumns(columns, own),
      ...(model?.sql ? [element("h3", {}, "SQL"), element("pre", { class: "sql", tabindex: "0" }, model.sql)] : []),
    ];
  }
}

function pair(title, values) {
  return [element("dt", {}, title), element("dd", {}, ...values)];
}

function full({ from_table, from_column }) {
  return `${from_table}.${from_column}`;
}

function ofColumns(columns, sources) {
  const origin = (name) => {
    const own = sources.filter((of) => of.column === name && of.from_table !== null && of.how !== "chosen");
    return (own.some(({ how }) => how === "computed") ? "computed from " : "") + own.map(full).join(", ");
  };
  const rows = columns.map(({ name, type }) => [name, type.toLowerCase(), origin(name)]);
  return grid("Columns", [{ name: "column" }, { name: "type" }, { name: "comes from" }], rows);
}
