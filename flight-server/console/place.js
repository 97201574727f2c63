// Where the page is, in the URL behind the '#': a link has view, statement and version, and no server sees them.

const VIEWS = ["ask", "state", "about"];

/** @returns {{view: string, sql: string, asOf: string, table: string}} */
export function here() {
  const said = new URLSearchParams(location.hash.slice(1));
  const of = (name) => said.get(name) ?? "";
  const view = VIEWS.find((view) => view === of("view")) ?? "ask";
  return { view, sql: of("sql"), asOf: of("as_of"), table: of("table") };
}

/** Moves there. What is new is a step of the browser's history; `replace` puts it in the place of the last one. */
export function go({ view, sql, asOf, table }, { replace = false } = {}) {
  const said = new URLSearchParams();
  if (view !== "ask") said.set("view", view);
  if (view === "about") said.set("table", table);
  if (sql) said.set("sql", sql);
  if (asOf) said.set("as_of", asOf);
  const url = said.size > 0 ? `#${said}` : location.pathname;
  if (url === location.hash || (said.size === 0 && !location.hash)) return;
  history[replace ? "replaceState" : "pushState"](null, "", url);
}
