// The console: what the parts of the page have to do with one another.

import { About } from "./about.js";
import { Answer } from "./answer.js";
import { element, link } from "./elements.js";
import { Lake } from "./lake.js";
import { Login } from "./login.js";
import { go, here } from "./place.js";
import { State } from "./state.js";
import { Tables, quoted } from "./tables.js";
import { Travel } from "./travel.js";

/** How often it looks whether there is a newer version, while somebody looks at the page. */
const LOOK_EVERY = 3_000;

/** Statements to begin with. */
const EXAMPLES = [
  ["the newest events", "SELECT * FROM bronze.events ORDER BY _offset DESC LIMIT 20"],
  ["what came, by type", "SELECT event_type, count(*) AS events FROM bronze.events GROUP BY 1 ORDER BY events DESC"],
  ["what each refresh did", "SELECT * FROM lakebed.runs ORDER BY epoch DESC, model"],
];

const at = (id) => document.getElementById(id);
const [editor, served, views] = [at("sql"), at("served"), ["ask", "state", "about"]];
const login = new Login();
const lake = new Lake(login);
const answer = new Answer(lake);
const state = new State(lake);
const travel = new Travel(lake);
const goes = {
  choose: (table) => write(`SELECT * FROM ${quoted(table)}`),
  about: (table) => move({ view: "about", table }),
};
const tables = new Tables(lake, goes);
const about = new About(lake, goes);

/** The statement of the place that was gone to last. */
let arrived = "";

/** Asks what the editor has, and lets the URL say so. */
function run() {
  const sql = editor.value.trim();
  if (!sql) return editor.focus();
  arrived = sql;
  move({ view: "ask", sql });
  ask(sql);
}

async function ask(sql) {
  await answer.ask(sql);
  travel.arrived(answer.version);
}

/** Asks a statement in the place of the editor's. */
function write(sql) {
  move({ view: "ask" });
  editor.focus();
  editor.select();
  // Unlike a new value, what is typed can be taken back by the browser's undo.
  document.execCommand("insertText", false, sql);
  run();
}

/** Goes to another place of the page. */
function move(to) {
  go({ ...here(), asOf: lake.asOf, ...to });
  show();
}

/** Shows what the URL says. A statement in it is run by nobody but who looks at it: a link may come from anywhere. */
function show() {
  const place = here();
  for (const view of views) at(view).hidden = view !== place.view;
  for (const view of ["ask", "state"]) at(`to-${view}`).ariaCurrent = view === place.view ? "page" : "false";
  document.title = place.view === "about" ? `${place.table} – lakebed` : "lakebed";
  if (place.view === "state") state.refresh();
  if (place.view === "about") about.show(place.table);
}

/** Takes up a place that was gone to by a link or by the browser's buttons. */
function arrive() {
  const place = here();
  if (place.sql !== arrived) {
    arrived = place.sql;
    answer.forget();
    editor.value = place.sql;
  }
  lake.travelTo(place.asOf);
  show();
}

/** Reads again what hangs on the version. */
function refresh() {
  tables.refresh();
  const { view, table } = here();
  if (view === "state") state.refresh();
  if (view === "about") about.show(table);
}

function look() {
  if (document.hidden) return;
  lake.look();
  state.tick();
}

at("editor").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
editor.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run();
  }
});
document.addEventListener("keydown", (event) => {
  // There it closes or clears what the user is at.
  if (event.key === "Escape" && !event.target.closest("dialog, [type=search]")) answer.cancel();
});
for (const view of ["ask", "state"]) at(`to-${view}`).addEventListener("click", () => move({ view }));
at("leave").addEventListener("click", () => login.leave());
login.addEventListener("change", () => {
  at("user").hidden = !login.user;
  at("user").firstElementChild.textContent = login.user;
});
login.addEventListener("late", refresh);
lake.addEventListener("newest", () => {
  served.textContent = lake.newest === null ? "no server answers" : `version ${lake.newest}`;
  served.classList.toggle("gone", lake.newest === null);
  if (lake.newest !== null && !lake.asOf && !login.isDeclined) refresh();
});
lake.addEventListener("travel", () => {
  go({ ...here(), asOf: lake.asOf }, { replace: true });
  refresh();
  if (answer.sql) ask(answer.sql);
});
addEventListener("popstate", arrive);
document.addEventListener("visibilitychange", look);

for (const [what, sql] of EXAMPLES) {
  at("examples").append(element("li", {}, link(what, () => write(sql)), element("code", {}, sql)));
}
login.dispatchEvent(new Event("change"));
if (location.hash) arrive();
look();
setInterval(look, LOOK_EVERY);
