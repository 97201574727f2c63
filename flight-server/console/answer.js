// A statement and its answer: asked, shown as far as a page can, cancelled, and fetched whole as a file.

import { element, failure, grid, grouped, plain } from "./elements.js";

/** Rows that are shown. What a server has more of is for files, and for other statements. */
const MOST = 1_000;

/** Characters of a value that are shown in its cell. */
const CELL = 60;

const whole = document.querySelector("#value");

/** What was asked last, on the page. */
export class Answer {
  #lake;
  #shown = document.querySelector("#answer");
  #failed = document.querySelector("#failed");
  #told = document.querySelector("#told");
  #files = document.querySelector("#files");
  #cancel = document.querySelector("#cancel");
  /** What is under way, if something is. */
  #asking = null;

  /** The statement that was asked last; empty where none was. */
  sql = "";
  /** The version that the rows that are shown were read at; undefined where none are. */
  version;

  constructor(lake) {
    this.#lake = lake;
    this.#cancel.addEventListener("click", () => {
      this.cancel();
      document.querySelector("#run").focus();
    });
    for (const button of this.#files.querySelectorAll("button")) {
      button.addEventListener("click", () => this.#download(button.value));
    }
  }

  /** Asks a statement; one that is under way is cancelled. */
  ask(sql) {
    this.sql = sql;
    this.version = undefined;
    this.#files.hidden = true;
    return this.#during("asking …", async (signal) => {
      const began = performance.now();
      const { columns, rows, isCut, version } = await this.#lake.ask(sql, { most: MOST, signal });
      signal.throwIfAborted();
      this.version = version;
      const took = grouped(Math.round(performance.now() - began));
      this.#shown.replaceChildren(grid("Answer", columns, rows, cell));
      const count = `${grouped(rows.length)} ${rows.length === 1 ? "row" : "rows"}`;
      return `${isCut ? `the first ${count}, more were not fetched` : count}, in ${took} ms, as of version ${version}`;
    });
  }

  /** Leaves the page as if nothing had been asked. */
  forget() {
    this.cancel();
    this.sql = "";
    this.version = undefined;
    this.#shown.replaceChildren();
    this.#failed.replaceChildren();
    this.#told.textContent = "";
    this.#files.hidden = true;
  }

  /** Ends what is under way: the server stops computing it. */
  cancel() {
    this.#asking?.abort();
  }

  /** All rows of the answer that is shown, read at the version that it was. */
  #download(format) {
    const { sql, version } = this;
    return this.#during(`fetching all rows as ${format} …`, async (signal) => {
      const file = await this.#lake.file(sql, format, version, signal);
      const url = URL.createObjectURL(file);
      element("a", { href: url, download: `lakebed-version-${version}.${format}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      return `all rows as of version ${version}, in a file`;
    });
  }

  /** Does what takes its time, tells how long, and how it ended. */
  async #during(doing, work) {
    this.cancel();
    const asking = new AbortController();
    this.#asking = asking;
    this.#shown.setAttribute("aria-busy", "true");
    this.#cancel.hidden = false;
    this.#told.textContent = doing;
    const tick = (seconds) => (this.#cancel.textContent = `Cancel (${seconds} s)`);
    let seconds = 0;
    tick(seconds);
    const ticking = setInterval(() => tick((seconds += 1)), 1_000);
    let [told, failed] = ["cancelled", []];
    try {
      told = await work(asking.signal);
    } catch (error) {
      if (error.name !== "AbortError") [told, failed] = ["", [failure(error)]];
    }
    clearInterval(ticking);
    // Who asked meanwhile tells of their own.
    if (this.#asking !== asking) return;
    this.#asking = null;
    this.#told.textContent = told;
    this.#failed.replaceChildren(...failed);
    this.#cancel.hidden = true;
    this.#shown.removeAttribute("aria-busy");
    this.#files.hidden = this.version === undefined;
    // Rows of another statement are no answer to this one.
    if (this.version === undefined) this.#shown.replaceChildren();
  }
}

/** A value, of which a long one is cut, and shown whole on demand. */
function cell(text, column) {
  if (text === null) return element("td", { class: column.isNumber ? "null number" : "null" }, "NULL");
  if (text.length <= CELL && !text.includes("\n")) return plain(text, column);
  const open = () => {
    whole.querySelector("h2").textContent = column.name;
    whole.querySelector("pre").textContent = text;
    whole.showModal();
  };
  const button = { class: "long", title: "Show all of it", click: open };
  return element("td", {}, element("button", button, text.slice(0, CELL)));
}
