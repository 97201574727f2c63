// How the lake is: how fresh, what came, what the last refresh did, what is checked and what could not be read.

import { ago, element, failure, grid, grouped, link } from "./elements.js";

const LOG =
  "SELECT max(version) AS version, max(time) AS time, sum(events) AS events, sum(quarantined) AS quarantined" +
  " FROM lakebed.versions";

/** A table each. What is empty is left out. */
const PARTS = {
  Models:
    "SELECT w.model, w.rows, r.time AS changed, r.rows_added AS came, r.rows_gone AS went, r.rows_read AS read," +
    " r.strategy FROM lakebed.watermarks w LEFT JOIN" +
    " (SELECT *, row_number() OVER (PARTITION BY model ORDER BY epoch DESC) AS nth FROM lakebed.runs) r" +
    " ON r.model = w.model AND r.nth = 1 ORDER BY w.model",
  Versions: "SELECT version, time, events, quarantined, batches FROM lakebed.versions ORDER BY version DESC LIMIT 10",
  Quarantine:
    "SELECT reason, count(*) AS events, max(time) AS last FROM lakebed.quarantine" +
    " GROUP BY reason ORDER BY events DESC, reason LIMIT 10",
  Checks: 'SELECT model, "check", severity FROM lakebed.checks ORDER BY model, "check"',
};

/** The overview. */
export class State {
  #lake;
  #section = document.querySelector("#state");
  #shown = element("div");
  /** Which of the readings is the last one. */
  #reading = 0;
  /** Where it is said how far the tables are behind. */
  #behind = element("dd");

  constructor(lake) {
    this.#lake = lake;
    this.#section.prepend(this.#shown);
  }

  /** Reads all of it again. */
  async refresh() {
    const reading = (this.#reading += 1);
    let shown;
    try {
      const [[log], ...parts] = await Promise.all([
        this.#lake.list(LOG),
        ...Object.values(PARTS).map((sql) => this.#lake.askIfThere(sql)),
      ]);
      this.#behind.textContent = this.#lake.asOf ? "" : await behindTheLog();
      const none = log ? null : "The tables of the schema lakebed are not yours to read.";
      shown = [facts(log, this.#behind), element("p", {}, none)];
      Object.keys(PARTS).forEach((title, index) => shown.push(...this.#part(title, parts[index])));
    } catch (error) {
      shown = [failure(error)];
    }
    if (reading === this.#reading) this.#shown.replaceChildren(...shown);
  }

  /** Lets the times go on; where no refresh comes to its end, nothing else moves. */
  async tick() {
    if (this.#behind.textContent && !this.#section.hidden) this.#behind.textContent = await behindTheLog();
    for (const time of this.#section.querySelectorAll("time")) time.textContent = ago(time.dateTime);
  }

  #part(title, { columns, rows }) {
    if (rows.length === 0) return [];
    const titles = columns.map(({ name, isNumber }) => ({ name, isNumber }));
    const cells = rows.map((row) => row.map((value, index) => this.#readable(value, columns[index])));
    return [element("h2", {}, title), grid(title, titles, cells)];
  }

  #readable(value, { name, type, isNumber }) {
    if (name === "version") return link(value, () => this.#lake.travelTo(value));
    if (type.startsWith("TIMESTAMP")) return when(value);
    return isNumber ? grouped(value) : value;
  }
}

function facts(log, behind) {
  const all = behind.textContent ? [["Tables", behind]] : [];
  if (log?.version) {
    all.unshift(["Version", grouped(log.version)], ["Its time", when(log.time)]);
    all.push(["Events", grouped(log.events)], ["In quarantine", grouped(log.quarantined)]);
  }
  const said = (value) => (value === behind ? value : element("dd", {}, value));
  const fact = ([name, value]) => element("div", {}, element("dt", {}, name), said(value));
  return element("dl", { class: "facts" }, ...all.filter(([, value]) => value).map(fact));
}

/** How far the tables are behind the log, after the metrics; nothing where they do not say. */
async function behindTheLog() {
  const response = await fetch("metrics", { cache: "no-store", credentials: "omit" }).catch(() => null);
  const text = (await response?.text()) ?? "";
  const metric = (name) => text.match(new RegExp(`^lakebed_${name} (\\S+)$`, "m"))?.[1];
  const [seconds, newest] = [metric("tables_behind_seconds"), metric("log_newest_version")];
  if (Number(seconds) > 0) return `${Math.ceil(seconds)} s behind the log`;
  const versions = newest - metric("log_version");
  if (versions > 0) return `${versions} ${versions === 1 ? "version" : "versions"} behind the log`;
  return newest ? "up to date" : "";
}

/** A time, as how long ago it was. */
function when(time) {
  return time && element("time", { datetime: time, title: time }, ago(time));
}
