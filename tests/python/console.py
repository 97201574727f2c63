"""Looks at the console of a lakebed server with a browser, as somebody who uses it.

    python console.py ADDRESS [--login USER PASSWORD TOKEN] [--picture FILE]

The server has no users, refreshes what comes (`serve --watch`), and its lake the models of `lakebed init` and two
versions with events. With --login it has a user instead, and it is seen how she logs in. With --picture a screenshot is
written. It needs console-requirements.txt, and Chromium or Chrome on the path. Prints each thing that held; ends with 1
and the reason at the first that did not.
"""

import argparse
import http.server
import json
import pathlib
import threading

from playwright.sync_api import expect, sync_playwright

from console_page import MILLISECONDS, Page, Server, browser_of_this_machine, check

# A value of every type that a server sends, and how it is shown.
VALUES = {
    "9223372036854775807": "9223372036854775807",
    "CAST(-7 AS TINYINT)": "-7",
    "CAST(18446744073709551615 AS BIGINT UNSIGNED)": "18446744073709551615",
    "CAST('-0.05' AS DECIMAL(38, 2))": "-0.05",
    "CAST('12345678901234567890.123' AS DECIMAL(38, 3))": "12345678901234567890.123",
    "CAST(0.1 AS DOUBLE)": "0.1",
    "CAST(0.1 AS REAL)": "0.1",
    "CAST(16777217 AS REAL)": "16777216",
    "CAST('NaN' AS DOUBLE)": "NaN",
    "true": "true",
    "'ä \"b\" <i>c</i>'": 'ä "b" <i>c</i>',
    "X'00ff'": "\\x00ff",
    "DATE '1969-12-31'": "1969-12-31",
    "TIME '01:02:03.040'": "01:02:03.04",
    "TIMESTAMP '1969-12-31T23:59:59.5'": "1969-12-31 23:59:59.5",
    "CAST('2026-11-26T12:00:00Z' AS TIMESTAMP WITH TIME ZONE)": "2026-11-26 12:00:00Z",
    "INTERVAL '1 month 2 days 3.5 seconds'": "1 months 2 days 3.5 s",
    "TIMESTAMP '2026-01-01T00:00:00' - TIMESTAMP '2026-01-01T00:00:01.25'": "-1.25 s",
    "make_array(1, NULL, 3)": "[1, null, 3]",
    "make_array(DATE '2026-01-01')": '["2026-01-01"]',
    "named_struct('a', 1, 'b', make_array('x'))": '{"a": 1, "b": ["x"]}',
    "MAP {'k': 1.5, 'l': NULL}": '{"k": 1.5, "l": null}',
    "CAST(NULL AS BIGINT)": "NULL",
    "NULL": "NULL",
    "''": "",
}


def tables(page, server):
    """What is there, without a statement."""
    expect(page.button("gold.revenue")).to_be_visible(timeout=MILLISECONDS)
    layers = page.page.locator("#tables h2").all_inner_texts()
    check(layers == ["gold", "silver", "bronze", "lakebed"], "the layers are listed, what people look for first")
    there = "SELECT count(*) AS n FROM information_schema.tables WHERE table_schema <> 'information_schema'"
    check(page.page.locator("#tables .name").count() == server.rows(there)[0]["n"], "with all their tables")
    events = server.rows("SELECT count(*) AS n FROM bronze.events")[0]["n"]
    line = page.page.locator(".line", has=page.button("bronze.events"))
    expect(line.locator(".count")).to_have_text(f"{events:,}", timeout=MILLISECONDS)
    check(True, "and how many rows they have")
    page.label("Find a table").fill("reven")
    found = page.page.locator("#tables .name:visible").all_inner_texts()
    check(found == ["revenue"], "a table is found by a part of its name")
    page.label("Find a table").fill("")
    arrow = page.button("Columns of gold.revenue")
    arrow.click()
    inside = page.page.locator(".inside:visible")
    expect(inside).to_contain_text("Revenue per day, country and currency", timeout=MILLISECONDS)
    shown = inside.inner_text()
    check("day\ndate" in shown and "revenue\ndecimal(38, 2)" in shown, "its columns, with their types")
    check(arrow.get_attribute("aria-expanded") == "true", "and it says that they are shown")


def answers(page, server):
    """Statements and their answers."""
    page.button("gold.revenue").click()
    page.comes_to_an_end()
    check(page.label("Statement").input_value() == "SELECT * FROM gold.revenue", "a click asks for a table's rows")
    expected = server.rows("SELECT * FROM gold.revenue")
    check(len(page.rows()) == len(expected), "all of them are there")
    told = page.told()
    check(told.startswith(f"{len(expected)} rows, in ") and told.endswith("as of version 2"), "how many, as of when")
    page.run("SELECT " + ", ".join(f"{value} AS v{index}" for index, value in enumerate(VALUES)))
    for (value, shown), text in zip(VALUES.items(), page.rows()[0]):
        check(text == shown, f"{value} is shown as {shown}" + ("" if text == shown else f", not as {text}"))
    cells = page.page.locator("#answer td")
    sides = cells.evaluate_all("(cells) => cells.map((cell) => getComputedStyle(cell).textAlign)")
    check(sides[0] == "right" and sides[-1] == "left", "numbers stand on the right")
    check(page.page.locator("#answer i").count() == 0, "no text is taken for HTML")
    styles = cells.evaluate_all("(cells) => cells.slice(-2).map((cell) => cell.className)")
    check(styles == ["null", ""], "NULL is told from an empty text")
    page.run("SELECT a.day, b.day, b.items FROM gold.revenue a JOIN gold.revenue b ON a.day = b.day WHERE false")
    named = [("day", "date"), ("day", "date"), ("items", "bigint")]
    check(page.columns() == named, "an empty answer has columns, two of one name")
    check(page.told().startswith("0 rows"), "and no rows")
    page.run("SELECT repeat('long ', 1000) AS text")
    check(len(page.cell().inner_text()) < 100, "a long value is cut")
    page.cell().get_by_role("button").click()
    whole = page.page.get_by_role("dialog", name="text")
    check(whole.locator("pre").inner_text() == "long " * 1000, "and shown whole on demand")
    page.button("Close").click()
    expect(whole).to_be_hidden()
    page.run("SELECT * FROM gold.revenu")
    said = ["there is no table 'gold.revenu'", "hint: did you mean 'gold.revenue'?"]
    check(page.failure() == said, "an error is told, with what to do")
    check(page.rows() == [] and page.page.locator("#files").is_hidden(), "and nothing is left of the answer before")
    page.run("SELECT 1 / (n - n) FROM (SELECT count(*) AS n FROM gold.revenue)")
    check("ivide by zero" in page.failure()[0], "also one that comes while it is computed")


def limits(page, server):
    """What a browser is not to hold, and what nobody waits for."""
    page.run("SELECT a._offset AS a, b._offset AS b FROM bronze.events a CROSS JOIN bronze.events b")
    check(len(page.rows()) == 1_000, "of many rows the first 1,000 are shown")
    check(page.told().startswith("the first 1,000 rows, more were not fetched"), "and it says so")
    check(server.comes_to_rest(), "the server computes no more of them")
    endless = "FROM bronze.events a, bronze.events b, bronze.events c WHERE a._offset * b._offset < c._offset"
    page.label("Statement").fill(f"SELECT count(*) AS n {endless}")
    page.button("Run Ctrl ↵").click()
    expect(page.page.locator("#cancel")).to_be_visible()
    page.page.locator("#cancel").click()
    page.comes_to_an_end()
    check(page.told() == "cancelled" and page.rows() == [], "a statement is cancelled")
    check(server.comes_to_rest(), "and the server computes it no more")


def files(page, server):
    sql = "SELECT day, country, revenue FROM gold.revenue ORDER BY day, country, currency"
    page.run(sql)
    for name in ["CSV", "JSON", "Parquet", "Arrow"]:
        with page.page.expect_download() as download:
            page.button(name).click()
        content = pathlib.Path(download.value.path()).read_bytes()
        named = download.value.suggested_filename == f"lakebed-version-2.{name.lower()}"
        check(named and content == server.post(f"v1/sql?format={name.lower()}", sql), f"all rows come as {name}")


def travels(page, server, context):
    """Earlier versions, and links."""
    sql = "SELECT count(*) AS n FROM silver.events"
    page.run(sql)
    [newest], [then] = ([str(row["n"]) for row in server.rows(sql, as_of)] for as_of in ("", "1"))
    check(page.rows() == [[newest]] and newest != then, "the newest is asked at first")
    page.label("as of").fill("1")
    page.page.keyboard.press("Enter")
    expect(page.cell()).to_have_text(then, timeout=MILLISECONDS)
    check("as of version 1" in page.told(), "an earlier version is asked, of the same statement")
    line = page.page.locator(".line", has=page.button("silver.events"))
    expect(line.locator(".count")).to_have_text(f"{int(then):,}", timeout=MILLISECONDS)
    check(True, "and the tables are those of then")
    link = page.page.url
    page.button("Newest").click()
    expect(page.cell()).to_have_text(newest, timeout=MILLISECONDS)
    check("as_of" not in page.page.url, "and the newest again")
    page.label("Version").focus()
    page.page.keyboard.press("ArrowLeft")
    expect(page.cell()).to_have_text(then, timeout=MILLISECONDS)
    check(page.label("as of").input_value() == "1", "by the slider, with the keyboard")
    page.label("as of").fill(server.rows("SELECT time FROM lakebed.versions WHERE version = 1")[0]["time"])
    page.page.keyboard.press("Enter")
    expect(page.page.locator("#told")).to_contain_text("as of version 1")
    check(page.rows() == [[then]], "a time is asked, too")
    page.label("as of").fill("99")
    page.page.keyboard.press("Enter")
    expect(page.page.locator("#ask").get_by_role("alert")).to_contain_text("no version 99", timeout=MILLISECONDS)
    check(True, "a version that is not there is an error")
    page.button("Newest").click()
    expect(page.cell()).to_have_text(newest, timeout=MILLISECONDS)
    other = Page(context, link)
    expect(other.button("gold.revenue")).to_be_visible(timeout=MILLISECONDS)
    filled = (other.label("Statement").input_value(), other.label("as of").input_value())
    check(filled == (sql, "1"), "a link has statement and version")
    check(not any(sql in body for body in other.asked), "and does not run by itself")
    other.button("Run Ctrl ↵").click()
    expect(other.cell()).to_have_text(then, timeout=MILLISECONDS)
    check(any(sql in body for body in other.asked), "before somebody says so")
    other.page.close()


def state(page, server):
    """How the lake is, and all about a table."""
    page.button("State").click()
    section = page.page.get_by_role("region", name="State", exact=True)
    models = page.page.get_by_role("region", name="Models")
    expect(models).to_contain_text("gold.revenue", timeout=MILLISECONDS)
    there = server.rows("SELECT count(*) AS n FROM lakebed.watermarks")[0]["n"]
    check(models.locator("tbody tr").count() == there, "the state of every model")
    check("up to date" in section.inner_text(), "and of the lake")
    checks = page.page.get_by_role("region", name="Checks")
    check("revenue >= 0" in checks.inner_text(), "and its checks")
    event = {"event_id": "new", "event_type": "purchase", "event_time": "2026-11-01T12:00:00Z"}
    server.post("v1/events", json.dumps(event) + "\nno event")
    expect(page.page.locator("#served")).to_have_text("version 3", timeout=MILLISECONDS)
    quarantine = page.page.get_by_role("region", name="Quarantine")
    expect(quarantine.locator("tbody tr")).to_have_count(1, timeout=MILLISECONDS)
    check(True, "what comes shows by itself, and what could not be read")
    page.page.get_by_role("region", name="Versions").get_by_role("button", name="2", exact=True).click()
    expect(quarantine).to_be_hidden(timeout=MILLISECONDS)
    check(page.label("as of").input_value() == "2", "of an earlier version, too")
    page.button("Newest").click()
    page.button("About gold.revenue").click()
    about = page.page.get_by_role("region", name="About a table")
    expect(about).to_contain_text("computed from silver.purchases.amount", timeout=MILLISECONDS)
    check("-- key: day, country" in about.locator("pre").inner_text(), "a table tells where it comes from, and its SQL")
    about.get_by_role("button", name="silver.purchases").click()
    expect(about.get_by_role("heading", name="silver.purchases")).to_be_visible(timeout=MILLISECONDS)
    check("gold.revenue" in about.inner_text(), "and who reads it")
    page.page.go_back()
    expect(about.get_by_role("heading", name="gold.revenue")).to_be_visible(timeout=MILLISECONDS)
    check(True, "the browser's own buttons go back")
    about.get_by_role("button", name="Ask for its rows").click()
    page.comes_to_an_end()
    check(page.label("Statement").input_value() == "SELECT * FROM gold.revenue", "and asks for its rows")


def manners(page):
    """Names for who does not see the page, and what the browser complained of."""
    nameless = page.page.evaluate(
        """[...document.querySelectorAll("button, input, textarea, [tabindex]")].filter((of) =>
            !(of.textContent.trim() || of.getAttribute("aria-label") || of.labels?.length || of.tagName === "PRE"))
            .map((of) => of.outerHTML)"""
    )
    check(nameless == [], f"all that can be used has a name {nameless or ''}")
    check(page.errors == [], f"and nothing went wrong on the way {page.errors or ''}")


def another_page(context, server):
    """A page of another site, in the same browser."""

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{elsewhere.server_port}/")
        for path in ["v1/sql", "v1/events"]:
            with page.expect_response(server.url + path) as response:
                page.evaluate(f"fetch('{server.url}{path}', {{method: 'POST', body: 'SELECT 1', mode: 'no-cors'}})")
            check(response.value.status == 403, f"another site's page gets nothing of {path}")
        elsewhere.shutdown()
        page.close()


def logins(context, server, user, password, token):
    page = Page(context, server.url)
    dialog = page.page.get_by_role("dialog", name="Log in")
    expect(dialog).to_be_visible(timeout=MILLISECONDS)
    check(page.page.locator("#tables .name").count() == 0, "without a login nothing is shown")

    def log_in(name, secret):
        dialog.get_by_label("User").fill(name)
        dialog.get_by_label("Password or token").fill(secret)
        page.page.keyboard.press("Enter")

    log_in(user, "a wrong one")
    expect(dialog.get_by_role("alert")).to_contain_text("the user or the password is wrong", timeout=MILLISECONDS)
    check(True, "a wrong password is told")
    log_in(user, password)
    expect(page.button("gold.revenue")).to_be_visible(timeout=MILLISECONDS)
    page.run("SELECT 1 AS one")
    check(page.rows() == [["1"]], "the right one lets in")
    check(page.page.locator("#user").inner_text().startswith(user), "and the page says who asks")
    kept = page.page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])")
    check(password not in kept and "bearer" in kept, "the password is kept nowhere")
    page.page.reload()
    expect(page.button("gold.revenue")).to_be_visible(timeout=MILLISECONDS)
    check(dialog.is_hidden(), "the login is kept in the tab")
    page.button("Log out").click()
    expect(dialog).to_be_visible(timeout=MILLISECONDS)
    check(page.page.locator("#tables .name").count() == 0, "until she logs out")
    page.page.keyboard.press("Escape")
    aside = page.page.get_by_role("complementary", name="Tables")
    expect(aside.get_by_role("alert")).to_contain_text("who asks", timeout=MILLISECONDS)
    check(True, "who does not want to is told what is missing")
    page.label("Statement").fill("SELECT 2 AS two")
    page.button("Run Ctrl ↵").click()
    log_in("", token)
    expect(page.cell()).to_have_text("2", timeout=MILLISECONDS)
    check(page.page.locator("#user").inner_text().startswith("a token"), "a token is enough")
    manners(page)


def picture(context, server, file):
    page = Page(context, server.url)
    page.button("Columns of gold.revenue").click()
    page.run("SELECT day, country, purchases, buyers, revenue, avg_purchase\nFROM gold.revenue\nORDER BY revenue DESC")
    page.page.screenshot(path=file)
    page.page.close()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("address")
    arguments.add_argument("--login", nargs=3)
    arguments.add_argument("--picture")
    arguments = arguments.parse_args()
    server = Server(arguments.address)
    with sync_playwright() as browsers, browsers.chromium.launch(executable_path=browser_of_this_machine()) as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 760})
        if arguments.login:
            return logins(context, server, *arguments.login)
        if arguments.picture:
            picture(context, server, arguments.picture)
        page = Page(context, server.url)
        tables(page, server)
        answers(page, server)
        limits(page, server)
        files(page, server)
        travels(page, server, context)
        state(page, server)
        manners(page)
        another_page(context, server)


main()
