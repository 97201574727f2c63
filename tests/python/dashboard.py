"""Runs the dashboard against a lakebed server, without a browser, and reads what it shows.

    python dashboard.py HOST PORT VERSION

VERSION is an earlier version of the lake with fewer events and less revenue than the newest; the lake has the models of
`lakebed init`, and no users. Needs dashboard/requirements.txt. Prints each thing that held; ends with 1 and the reason at
the first that did not.
"""

import os
import pathlib
import socket
import sys

import adbc_driver_flightsql.dbapi as flightsql
from streamlit.testing.v1 import AppTest

APP = pathlib.Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
SECONDS = 60


def check(condition, what):
    """Prints what held, or ends the walk with it."""
    if not condition:
        sys.exit(f"did not hold: {what}")
    print(f"ok  {what}")


def opened(uri):
    """The page of a new session."""
    os.environ["LAKEBED_FLIGHT"] = uri
    return AppTest.from_file(str(APP), default_timeout=SECONDS).run()


def answered(page, what):
    reasons = [element.value for element in [*page.exception, *page.error]]
    check(not reasons, what + (f": {reasons}" if reasons else ""))


def metrics(page):
    return {metric.label: metric.value for metric in page.metric}


def expected(lake, currency, version=None):
    """What the page has to show, by statements of another connection."""
    as_of = "" if version is None else f" VERSION AS OF {version}"

    def one(sql, *parameters):
        with lake.cursor() as cursor:
            cursor.execute(sql, list(parameters))
            return cursor.fetchone()[0]

    newest = one("SELECT max(version) FROM lakebed.versions")
    revenue = one(f"SELECT sum(revenue) FROM gold.revenue{as_of} WHERE currency = ?", currency)
    return {
        "Version": str(newest if version is None else version),
        "Events": f"{one(f'SELECT count(*) FROM bronze.events{as_of}'):,}",
        "Events, each once": f"{one(f'SELECT count(*) FROM silver.events{as_of}'):,}",
        "Revenue": f"{revenue:,} {currency}",
    }


def shows(page, numbers, what):
    seen = metrics(page)
    for label, value in numbers.items():
        check(seen.get(label) == value, f"{what}: {label} {value} on the page, which has {seen.get(label)}")


def sections(page):
    titles = [header.value for header in page.header]
    check(titles == ["Freshness", "Activity", "Revenue", "Funnel", "Retention"], "sections: " + ", ".join(titles))
    check(len(page.get("vega_lite_chart")) == 3, "charts of activity, revenue and the funnel")
    models, cohorts = (table.value for table in page.dataframe)
    check(len(models) > 0 and set(models.columns) >= {"model", "version"}, f"a table of {len(models)} models")
    check(len(cohorts) > 0 and (cohorts["day 0"] == 1).all(), f"a table of {len(cohorts)} cohorts, whole on day 0")
    rates = [label for label in metrics(page) if " of " in label]
    check(len(rates) == 3, "rates: " + ", ".join(rates))
    check("Behind now" in metrics(page), f"behind now: {metrics(page)['Behind now']}")


def travels(page, lake, version):
    currency = page.selectbox(key="currency").value
    now, then = expected(lake, currency), expected(lake, currency, version)
    check(all(now[label] != then[label] for label in now), f"version {version} has other numbers than the newest")
    shows(page, now, "at the newest")
    for number, numbers in ((version, then), (int(now["Version"]), now)):
        page.slider(key="version").set_value(number).run()
        answered(page, f"the slider goes to {number}")
        shows(page, numbers, f"at {number}")
    page.slider(key="version").set_value(0).run()
    answered(page, "the slider goes to 0, where the log is empty")
    check(metrics(page)["Events"] == "0" and len(page.info) == 1, f"at 0: {page.info[0].value}")


def unreachable():
    with socket.socket() as closed:  # Bound and not listening: nobody else gets the port, and nobody answers.
        closed.bind(("127.0.0.1", 0))
        uri = f"grpc://127.0.0.1:{closed.getsockname()[1]}"
        page = opened(uri)
    check(not page.exception and not page.metric, "a closed port is no exception")
    check(len(page.error) == 1 and uri in page.error[0].value, f"  but a sentence: {page.error[0].value}")


def main():
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    for name in ("LAKEBED_USER", "LAKEBED_PASSWORD", "LAKEBED_TLS_ROOT"):
        os.environ.pop(name, None)
    uri = f"grpc://{sys.argv[1]}:{sys.argv[2]}"
    page = opened(uri)
    answered(page, "the page opens")
    sections(page)
    with flightsql.connect(uri, autocommit=True) as lake:
        travels(page, lake, int(sys.argv[3]))
    unreachable()


main()
