// The lake as this page sees it: a client of POST /v1/sql like any other, which asks as of the version that is chosen.

import { readStream } from "./arrow.js";
import { Refusal, reached } from "./refusal.js";

/** Tells of `newest` whenever the newest version moves, and of `travel` when another version is to be read. */
export class Lake extends EventTarget {
  #login;
  /** The version or time that questions are asked as of; empty for the newest. */
  asOf = "";
  /** The newest version served; null where nobody says it. */
  newest = null;

  constructor(login) {
    super();
    this.#login = login;
  }

  travelTo(asOf) {
    if (asOf === this.asOf) return;
    this.asOf = asOf;
    this.dispatchEvent(new Event("travel"));
  }

  /**
   * Asks a statement. Of an answer that has more rows than `most`, the rest is not fetched, and the server stops.
   *
   * @returns {Promise<{columns, rows, isCut, version}>} as `readStream` gives them, and the version they were read at
   */
  async ask(sql, { most = Infinity, asOf = this.asOf, signal } = {}) {
    const ending = new AbortController();
    const either = signal ? AbortSignal.any([signal, ending.signal]) : ending.signal;
    try {
      const response = await this.#post(sql, "arrow", asOf, either);
      const version = response.headers.get("lakebed-version");
      const stream = readStream(response.body, { most: most + 1 });
      const columns = (await stream.next()).value;
      const rows = [];
      for await (const batch of stream) {
        for (const row of batch) rows.push(row);
        if (rows.length > most) break;
      }
      return { columns, rows: rows.slice(0, most), isCut: rows.length > most, version };
    } finally {
      ending.abort();
    }
  }

  /** The same; no rows where whoever asks may not read the tables, or they are not there. */
  async askIfThere(sql, options) {
    try {
      return await this.ask(sql, options);
    } catch (error) {
      if (error.code !== "NOT_FOUND") throw error;
      // Or the version is not there.
      await this.ask("SELECT 1", options);
      return { columns: [], rows: [] };
    }
  }

  /** The same, each row an object. */
  async list(sql, options) {
    const { columns, rows } = await this.askIfThere(sql, options);
    return rows.map((row) => Object.fromEntries(columns.map(({ name }, index) => [name, row[index]])));
  }

  /** A whole answer as a file: in `json`, `csv`, `arrow` or `parquet`. */
  async file(sql, format, asOf, signal) {
    const response = await this.#post(sql, format, asOf, signal);
    return reached(response.blob());
  }

  /** Looks which version is the newest. It needs no login. */
  async look() {
    const response = await fetch("healthz", { cache: "no-store", credentials: "omit" }).catch(() => null);
    const newest = response?.ok ? (await response.json()).version : null;
    if (newest === this.newest) return;
    this.newest = newest;
    this.dispatchEvent(new Event("newest"));
  }

  async #post(sql, format, asOf, signal) {
    for (;;) {
      const login = this.#login.headers();
      const headers = { "Content-Type": "application/json", ...login };
      const body = JSON.stringify(asOf ? { sql, as_of: asOf } : { sql });
      // The browser is to add no login of its own, and to ask for none.
      const request = { method: "POST", headers, body, signal, credentials: "omit" };
      const response = await reached(fetch(`v1/sql?format=${format}`, request));
      this.#login.take(response.headers.get("authorization"));
      if (response.ok) return response;
      const refusal = await refusalOf(response);
      if (refusal.code !== "UNAUTHENTICATED") throw refusal;
      await this.#login.ask(refusal, login.Authorization);
    }
  }
}

async function refusalOf(response) {
  const text = await reached(response.text());
  try {
    const { error, ...rest } = JSON.parse(text);
    return new Refusal(error, rest);
  } catch {
    // Something between here and the server.
    return new Refusal(`${response.status} ${response.statusText}`.trim());
  }
}
