#!/usr/bin/env python3
"""JSON into a lake: lakebed in every way that events come in, beside DuckDB on the same file, in one table.

    ingest.py [--lakebed PATH] [--events 1000000] [--runs 5] [--work DIR]

lakebed reads the events from a file, from stdin, on one core alone, and over HTTP (16 connections, bodies of 1 MB); DuckDB keeps
the document, or drops it. All take turns, each in a process of its own; medians, and how many times lakebed's seconds and CPU
seconds DuckDB takes. Then DuckDB reads what both wrote. Figures are comparable only within one run on one machine.
"""

import argparse
import datetime
import http.client
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

import side_by_side as bench

CONNECTIONS = 16
BODY = 1_000_000
KEEPS, DROPS = "DuckDB, with the document", "DuckDB, without"
FILE = "lakebed, from a file"
READ = "SELECT count(*), count(DISTINCT user_user_id), sum(engagement_duration_ms), max(length(_doc)) FROM read_parquet('{}')"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lakebed", type=pathlib.Path, default=bench.default_binary(), help="default: %(default)s")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", help="keep events and results in this directory (default: a temporary one)")
    given = parser.parse_args()
    if not given.lakebed.is_file():
        parser.error(f"no lakebed at {given.lakebed}: cargo build --release, or --lakebed PATH")
    if given.events < 100 or given.runs < 1:
        parser.error("at least 100 events and one run")
    given.peers_only, given.only = False, ["ingest"]
    return bench.in_directory(given, "lakebed-ingest-", compare)


def compare(given, work):
    engines = Engines(bench.Bench(given, work, bench.environment()))
    for run in range(given.runs):
        bench.say(f"run {run + 1} of {given.runs}")
        engines.run()
    print(engines.markdown(), end="")


class Engines:
    """What takes part, and the figures so far."""

    def __init__(self, setting):
        self.setting, self.figures, self.reads = setting, {}, {}
        self.project, self.events = setting.work / "project", setting.events

    def run(self):
        setting = self.setting
        for who, peer in ((KEEPS, "duckdb"), (DROPS, "duckdb-without-doc")):
            out = bench.remove(setting.work / peer)
            self.add(who, setting.peer("ingest", peer, self.events, out))
        lakebed = [setting.given.lakebed, "--project", self.project]
        core = {min(os.sched_getaffinity(0))} if hasattr(os, "sched_setaffinity") else None
        self.lakebed("lakebed, from stdin", lambda: self.process(*lakebed, "ingest", "-", stdin=self.events))
        if core:
            self.lakebed("lakebed, on one core", lambda: self.process(*lakebed, "ingest", self.events, cores=core))
        self.lakebed(f"lakebed, HTTP, {CONNECTIONS} connections", self.http)
        self.lakebed(FILE, lambda: self.process(*lakebed, "ingest", self.events))
        for who, files in ((FILE, self.project / "lake" / "events" / "**" / "*.parquet"), (KEEPS, setting.work / "duckdb" / "**" / "*.parquet")):
            script = f"import duckdb, time; t = time.time(); duckdb.sql(\"\"\"{READ.format(files)}\"\"\").fetchall(); print(time.time() - t)"
            self.reads.setdefault(who, []).append(float(setting.execute([setting.python, "-c", script])))

    def lakebed(self, who, ingest):
        setting = self.setting
        setting.execute([setting.given.lakebed, "init", bench.remove(self.project)])
        figures = ingest()
        setting.expect(self.project, "SELECT count(*) AS n, 0 AS total FROM bronze.events", [setting.given.events, 0], who)
        self.add(who, figures | {"out_bytes": bench.size_of(self.project / "lake" / "events")})

    def add(self, who, figures):
        bench.say(f"  {who}: {figures['seconds']:.2f} s, {figures['cpu_seconds']:.2f} CPU s")
        self.figures.setdefault(who, []).append(figures)

    def process(self, *words, stdin=None, cores=None):
        """Runs a command; its figures are those of the whole process."""
        with open(stdin or os.devnull, "rb") as source:
            pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
            start = time.monotonic()
            process = subprocess.Popen(bench.texts(words), stdin=source, stdout=subprocess.DEVNULL, preexec_fn=pin)
            return self.waited(process, start, words)

    def waited(self, process, start, words):
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise bench.Failed(f"{' '.join(bench.texts(words))} ended with {process.returncode}")
        return {"seconds": time.monotonic() - start, "cpu_seconds": used.ru_utime + used.ru_stime,
                "peak_bytes": used.ru_maxrss * bench.bytes_of_maxrss()}

    def http(self):
        """From the first body that is sent to the last answer; the server's CPU seconds and memory."""
        words = [self.setting.given.lakebed, "--project", self.project, "serve", "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        process = subprocess.Popen(bench.texts(words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            found = next(filter(None, (re.search(r"POST http://([^/]+)/", line) for line in process.stderr)), None)
            if found is None:
                raise bench.Failed("lakebed serve did not say where it listens")
            threading.Thread(target=process.stderr.read, daemon=True).start()
            start = time.monotonic()
            self.post(found[1])
            seconds = time.monotonic() - start
        finally:
            os.kill(process.pid, signal.SIGTERM)
            figures = self.waited(process, time.monotonic(), words)
        return figures | {"seconds": seconds}

    def post(self, address):
        """Every event, in bodies of whole lines, over all connections."""
        lock, failures = threading.Lock(), []
        with open(self.events, "rb") as source:
            def bodies():
                while True:
                    with lock:
                        body = b"".join(source.readlines(BODY))
                    if not body:
                        return
                    yield body

            def send():
                connection = http.client.HTTPConnection(address)
                for body in bodies():
                    while True:
                        connection.request("POST", "/v1/events", body)
                        answer = connection.getresponse()
                        said = answer.read()
                        if answer.status != 429:
                            break
                        time.sleep(0.05)
                    if answer.status != 200:
                        failures.append(said)
                        return

            threads = [threading.Thread(target=send) for _ in range(CONNECTIONS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if failures:
            raise bench.Failed(f"a body was not taken: {failures[0]}")

    def markdown(self):
        given, size = self.setting.given, self.events.stat().st_size
        lines = [f"{datetime.date.today()} · {given.events:,} events, {size / 1e6:,.0f} MB of NDJSON · medians of {given.runs} · "
                 f"{bench.machine()}", "",
                 "| who | s | events/s | CPU s | peak MB | out MB | times the seconds | times the CPU | DuckDB reads it, s |",
                 "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
        ours = {figure: bench.median(self.figures[FILE], figure) for figure in ("seconds", "cpu_seconds")}
        for who, runs in sorted(self.figures.items(), key=lambda item: item[0] != FILE):
            seconds, cpu = bench.median(runs, "seconds"), bench.median(runs, "cpu_seconds")
            reads = statistics.median(self.reads[who]) if who in self.reads else None
            cells = [who, f"{seconds:.2f}", f"{given.events / seconds:,.0f}", f"{cpu:.1f}",
                     bench.number(bench.median(runs, "peak_bytes"), 1e6, 0), bench.number(bench.median(runs, "out_bytes"), 1e6, 0),
                     f"{seconds / ours['seconds']:.2f}", f"{cpu / ours['cpu_seconds']:.2f}", bench.number(reads, 1, 2)]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
