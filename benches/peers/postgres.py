#!/usr/bin/env python3
"""Rows into PostgreSQL: lakebed's sink beside ADBC's bulk ingest, the same rows into the same server, by turns.

    postgres.py --url postgres://me@127.0.0.1/bench [--lakebed PATH] [--events 500000] [--runs 3]

The database is emptied of what is loaded, so let it be one for this alone. lakebed's clock is that of the whole process that
publishes a model of twelve columns, which is computed before; ADBC's is that of one binary COPY out of memory, without its
imports. Figures are comparable only within one run on one machine and one server.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

from side_by_side import Failed, default_binary, environment, in_directory, machine, say

COLUMNS = ("event_id, event_type, event_time, source, user_user_id, session_session_id, user_agent_browser, location_country, "
           "location_latitude, page_url, engagement_duration_ms, properties_price")

PEER = """
import sys, time
import adbc_driver_postgresql.dbapi as adbc
import pyarrow.parquet as parquet
table = parquet.read_table(sys.argv[1])
with adbc.connect(sys.argv[2]) as connection, connection.cursor() as cursor:
    began = time.monotonic()
    cursor.adbc_ingest("peer_load", table, mode="replace")
    connection.commit()
    print(time.monotonic() - began)
    cursor.execute("DROP TABLE peer_load")
    connection.commit()
"""


def compare(given, work):
    python = environment("requirements-postgres.txt")
    project = work / "project"
    run = lambda *words, **more: execute([given.lakebed, *words], **more)  # noqa: E731
    run("init", project)
    for model in (project / "sql").glob("*/*.sql"):
        model.unlink()
    (project / "sql" / "silver" / "wide.sql").write_text(f"SELECT {COLUMNS} FROM bronze.events\n")
    events = work / "events.ndjson"
    run("generate", "--events", given.events, "--to", events)
    run("--project", project, "ingest", events)
    run("--project", project, "run")
    rows = work / "rows.parquet"
    with rows.open("wb") as out:
        run("--project", project, "query", f"SELECT {COLUMNS} FROM silver.wide", "-o", "parquet", stdout=out)
    times = {"adbc": [], "lakebed": []}
    sink = os.environ | {"LAKEBED_POSTGRES_URL": given.url, "LAKEBED_MODELS_SINKS": "postgres"}
    for turn in range(given.runs):
        times["adbc"].append(float(execute([python, "-c", PEER, rows, given.url])))
        execute(["psql", "--quiet", given.url, "-c", "DROP SCHEMA IF EXISTS lakebed, silver, bronze CASCADE"])
        began = time.monotonic()
        run("--project", project, "run", env=sink)
        times["lakebed"].append(time.monotonic() - began)
        say(f"run {turn + 1}: adbc {times['adbc'][-1]:.2f} s, lakebed {times['lakebed'][-1]:.2f} s")
    run("--project", project, "verify", env=sink)
    print(f"{given.events:,} rows of twelve columns, medians of {given.runs}, {machine()}\n")
    print("| who | s | rows/s |\n|---|---:|---:|")
    for who, taken in times.items():
        print(f"| {who} | {statistics.median(taken):.2f} | {given.events / statistics.median(taken):,.0f} |")


def execute(words, stdout=subprocess.PIPE, env=None):
    done = subprocess.run([str(word) for word in words], stdout=stdout, stderr=subprocess.PIPE, env=env)
    if done.returncode != 0:
        raise Failed(f"{words[0]} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return done.stdout.decode() if done.stdout else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--lakebed", type=pathlib.Path, default=default_binary(), help="default: %(default)s")
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", help="keep events and results in this directory (default: a temporary one)")
    return in_directory(parser.parse_args(), "lakebed-postgres-", compare)


if __name__ == "__main__":
    sys.exit(main())
