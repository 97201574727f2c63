#!/usr/bin/env python3
"""How soon a posted event is in an answer: from its POST to a gold table that counts it, asked over Flight SQL.

    freshness.py --lakebed PATH [--history 1000000] [--rate 50] [--seconds 60]

Ingests and refreshes the history into a lake in a temporary directory, with the starter's twelve models; then, with
`lakebed serve --watch`, posts one event at a time at the rate, and asks `gold.daily_activity` for its count twenty times a
second. Prints Markdown: the median and the 99th percentile of the time from the beginning of an event's POST to the
end of the first answer that counts it, and how long the POST itself took. Needs adbc-driver-flightsql and pyarrow. Figures
are comparable only within one run on one machine.
"""

import argparse
import bisect
import concurrent.futures
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import adbc_driver_flightsql.dbapi as flightsql

# How often the question is asked, a second: twenty dashboards that look once a second.
ASKED = 20

QUESTION = "SELECT sum(events) AS events FROM gold.daily_activity"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lakebed", type=pathlib.Path, required=True, help="the release binary")
    parser.add_argument("--history", type=int, default=1_000_000, help="events that are there already")
    parser.add_argument("--rate", type=float, default=50.0, help="events a second")
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    lakebed = str(arguments.lakebed.resolve())
    with tempfile.TemporaryDirectory() as scratch:
        shop = pathlib.Path(scratch) / "shop"
        done = lambda *command: subprocess.run([lakebed, "-q", *command], check=True, cwd=scratch)
        done("init", "shop")
        done("generate", "--events", str(arguments.history), "--to", "history.ndjson")
        done("--project", "shop", "ingest", "history.ndjson")
        pathlib.Path(scratch, "history.ndjson").unlink()
        done("--project", "shop", "run")
        count = int(arguments.rate * arguments.seconds)
        new = subprocess.run([lakebed, "generate", "--first", str(arguments.history), "--events", str(count)],
                             check=True, stdout=subprocess.PIPE).stdout.splitlines()
        server = subprocess.Popen(
            [lakebed, "--project", str(shop), "serve", "--watch", "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"],
            stderr=subprocess.PIPE, text=True)
        try:
            report(arguments, *measure(server, new, arguments.rate))
        finally:
            server.terminate()
            server.wait()
    return 0


def measure(server: subprocess.Popen, events: list[bytes], rate: float) -> tuple[list[float], list[float], int]:
    addresses: dict[str, str] = {}
    while len(addresses) < 2:
        line = server.stderr.readline()
        if not line:
            sys.exit("the server ended")
        for scheme in ("grpc", "http"):
            if found := re.search(rf"{scheme}://(\S+)$", line.strip()):
                addresses.setdefault(scheme, found.group(1))
    threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
    url = f"http://{addresses['http']}/v1/events"
    posted: list[float] = [0.0] * len(events)
    took: list[float] = [0.0] * len(events)

    def post(at: int) -> None:
        posted[at] = time.perf_counter()
        request = urllib.request.Request(url, data=events[at], method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
        took[at] = time.perf_counter() - posted[at]

    counts: list[int] = []
    seen: list[float] = []
    stop = threading.Event()
    with flightsql.connect(f"grpc://{addresses['grpc']}", autocommit=True) as lake, lake.cursor() as cursor:
        cursor.adbc_prepare(QUESTION)
        ask = lambda: (cursor.execute(QUESTION), cursor.fetchone()[0])[1]
        base = ask()

        def keep_asking() -> None:
            while not stop.is_set():
                count = ask()
                if not counts or count > counts[-1]:
                    counts.append(count)
                    seen.append(time.perf_counter())
                time.sleep(1 / ASKED)

        asking = threading.Thread(target=keep_asking)
        asking.start()
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            posts = []
            for at in range(len(events)):
                time.sleep(max(0.0, began + at / rate - time.perf_counter()))
                posts.append(pool.submit(post, at))
            for done in posts:
                done.result()
        deadline = time.perf_counter() + 60
        while (not counts or counts[-1] < base + len(events)) and time.perf_counter() < deadline:
            time.sleep(0.01)
        stop.set()
        asking.join()
    if not counts or counts[-1] != base + len(events):
        sys.exit(f"{len(events)} events were posted, and the table counts {(counts or [base])[-1] - base}")
    # Which events an answer counts is not told; they are committed in about the order of their posts.
    order = sorted(range(len(events)), key=lambda at: posted[at] + took[at])
    fresh = []
    for place, at in enumerate(order, start=1):
        answer = bisect.bisect_left(counts, base + place)
        fresh.append(max(seen[answer] - posted[at], 0.0))
    return fresh, took, len(counts)


def report(arguments: argparse.Namespace, fresh: list[float], took: list[float], answers: int) -> None:
    def at(values: list[float], percent: int) -> str:
        return f"{statistics.quantiles(values, n=100, method='inclusive')[percent - 1] * 1000:.0f} ms"

    print(f"{len(fresh)} events at {arguments.rate:g} a second, {arguments.history:,} behind them; "
          f"{answers} answers told of new ones\n")
    print("| | p50 | p99 | most |")
    print("|---|---:|---:|---:|")
    for what, values in (("POST to an answer that counts it", fresh), ("the POST itself", took)):
        print(f"| {what} | {at(values, 50)} | {at(values, 99)} | {max(values) * 1000:.0f} ms |")


if __name__ == "__main__":
    sys.exit(main())
