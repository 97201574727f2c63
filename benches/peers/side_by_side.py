#!/usr/bin/env python3
"""lakebed and what a user would pick instead, on the same events, in one table.

    side_by_side.py [--lakebed PATH] [--events 1000000] [--runs 3] [--only ingest,models,refresh,flight] [--peers-only]

Generates the events, then lets every engine do each work in a process of its own, taking turns, and prints Markdown:
medians of seconds, CPU seconds and peak memory, and how many times lakebed's seconds a peer took. An engine's clock
starts after its imports, lakebed's with its process. Where both sides make tables, their answers are compared first.
Figures are comparable only within one run on one machine. Needs Python 3.10 or newer and a package index; the peers
live in a virtual environment in the cache directory ($XDG_CACHE_HOME or ~/.cache, then lakebed/peers-HASH).
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import dbt_project
import models

HERE = pathlib.Path(__file__).resolve().parent
WORKS = ["ingest", "models", "refresh", "flight"]
PEERS = ["duckdb", "duckdb-without-doc", "polars", "chdb"]
LATER = 0.01  # the share of new events that a refresh brings
READS = 15
START_SECONDS = 600


class Failed(Exception):
    """A step that did not do its work; the message says which."""


def main():
    return in_directory(arguments(), "lakebed-peers-", compare)


def compare(given, work):
    bench = Bench(given, work, environment())
    for run in range(given.runs):
        say(f"run {run + 1} of {given.runs}")
        bench.run()
    print(bench.markdown(), end="")


def in_directory(given, prefix, act):
    """Acts in the directory that was given, or in a temporary one; the exit code of a bench."""
    work = pathlib.Path(given.work or tempfile.mkdtemp(prefix=prefix))
    work.mkdir(parents=True, exist_ok=True)
    try:
        act(given, work)
    except Failed as failure:
        say(f"error: {failure}")
        return 1
    finally:
        if given.work is None:
            shutil.rmtree(work, ignore_errors=True)
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lakebed", type=pathlib.Path, default=default_binary(), help="default: %(default)s")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(WORKS), help="comma-separated: " + ", ".join(WORKS))
    parser.add_argument("--work", help="keep events and results in this directory (default: a temporary one)")
    parser.add_argument("--peers-only", action="store_true", help="without lakebed, and so without flight")
    given = parser.parse_args()
    given.only = [work for work in given.only.split(",") if work != "flight" or not given.peers_only]
    if unknown := set(given.only) - set(WORKS):
        parser.error(f"--only knows {', '.join(WORKS)}, not {', '.join(sorted(unknown))}")
    if given.events < 100 or given.runs < 1:
        parser.error("at least 100 events and one run")
    if not given.peers_only and not given.lakebed.is_file():
        parser.error(f"no lakebed at {given.lakebed}: cargo build --release, or --lakebed PATH, or --peers-only")
    return given


def default_binary():
    target = os.environ.get("CARGO_TARGET_DIR") or HERE.parents[1] / "target"
    return pathlib.Path(target) / "release" / "lakebed"


def environment(requirements="requirements.txt"):
    """The interpreter of a virtual environment with these requirements, made on first use."""
    requirements = HERE / requirements
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    root = cache / "lakebed" / f"peers-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]}"
    python, complete = root / "bin" / "python", root / "complete"
    if not complete.exists():
        say(f"making the peers' environment in {root} (once; about 2 GB)")
        shutil.rmtree(root, ignore_errors=True)
        for command in ([sys.executable, "-m", "venv", root],
                        [python, "-m", "pip", "install", "--quiet", "--requirement", requirements]):
            if subprocess.run(command, stdout=sys.stderr).returncode != 0:
                raise Failed("no environment for the peers\nhint: pip must reach a package index")
        complete.touch()
    return python


class Bench:
    """The events, the engines that take part, and the figures so far."""

    def __init__(self, given, work, python):
        self.given, self.work, self.python = given, work, python
        self.figures = {}
        self.later_count = max(1, int(given.events * LATER))
        self.events = self.generate("events", given.events, 7)
        self.later = self.generate("later", self.later_count, 8)

    def generate(self, name, count, seed):
        path = self.work / f"{name}-{count}-{seed}.ndjson"
        if not path.exists():
            say(f"generating {count:,} events")
            unfinished = path.with_suffix(".unfinished")
            self.execute([self.python, HERE / "events.py", count, unfinished, seed])
            unfinished.rename(path)
        return path

    def run(self):
        """Every work once. The Parquet that the peers' later works read is what DuckDB made of the same events."""
        given, work = self.given, self.work
        parquet, database, project = work / "duckdb", work / "peer.duckdb", work / "project"
        lakebed = not given.peers_only
        for peer in PEERS if "ingest" in given.only else PEERS[:1]:
            out = remove(work / peer)
            self.add("ingest", peer, given.events, self.peer("ingest", peer, self.events, out))
        if lakebed:
            self.start_project(project)
            self.add("ingest", "lakebed", given.events, self.lakebed(project, "ingest", self.events),
                     out_bytes=size_of(project / "lake" / "events"))
            self.expect(project, "SELECT count(*) AS n, 0 AS total FROM bronze.events", [given.events, 0], "bronze.events")
        if "models" in given.only or "refresh" in given.only:
            self.build("models", given.events, project, parquet, remove(database))
        elif lakebed and "flight" in given.only:
            self.lakebed(project, "run")
        if "flight" in given.only:
            for name in models.SERVED:
                self.flight(name, project)
        if "refresh" in given.only:
            self.peer("ingest", "duckdb", self.later, remove(work / "later"))
            for file in sorted((work / "later").rglob("*.parquet")):
                day = parquet / file.parent.name
                day.mkdir(exist_ok=True)
                file.rename(day / f"later-{file.name}")
            if lakebed:
                self.lakebed(project, "ingest", self.later)
            self.build("refresh", self.later_count, project, parquet, remove(database))

    def build(self, work, new_rows, project, parquet, database):
        peer = self.peer("models", parquet, database)
        self.add(work, "duckdb script", new_rows, peer, out_bytes=size_of(database))
        self.add(work, "dbt-duckdb", new_rows, self.dbt(parquet, peer["checks"], anew=work == "models"))
        if not self.given.peers_only:
            self.add(work, "lakebed", new_rows, self.lakebed(project, "run"))
            for table, sql in models.CHECKS.items():
                self.expect(project, sql, peer["checks"][table], table)

    def dbt(self, parquet, expected, anew):
        """Runs the dbt project: from nothing, or on what it made before."""
        project, database = self.work / "dbt", self.work / "dbt.duckdb"
        if anew:
            dbt_project.write(remove(project), parquet, remove(database))
        dbt = environment("requirements-dbt.txt").parent / "dbt"
        figures = self.process(dbt, "run", "--quiet", "--project-dir", project, "--profiles-dir", project)
        checks = self.peer("check", database)["checks"]
        if checks != expected:
            raise Failed(f"dbt has counts and sums {checks}, the script {expected}: nothing to compare")
        return figures

    def flight(self, name, project):
        sql, table, peers = models.SERVED[name], self.work / "table.arrow", [self.python, HERE / "peers.py"]
        ours = [self.given.lakebed, "--project", project, "serve", "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        with Server(ours, self.work / "server.log") as lakebed:
            self.execute([*peers, "save", lakebed.address, sql, table])
            with Server([*peers, "serve", table], self.work / "peer.log") as other:
                read = json.loads(self.execute([*peers, "read", READS, lakebed.address, sql, other.address]))
        for who in read:
            server = other if who == "arrow c++ server" else lakebed
            figures = {"seconds": read[who]["seconds"], "cpu_seconds": None, "peak_bytes": server.peak_bytes}
            self.add(f"flight: {name}", who, read[who]["rows"], figures, out_bytes=read[who]["bytes"])

    def start_project(self, project):
        """A new project whose models are the ones that are timed."""
        self.execute([self.given.lakebed, "init", remove(project)])
        for file in (project / "sql").rglob("*.sql"):
            file.unlink()
        statements = {"silver/events": models.SILVER_LAKEBED}
        statements |= {f"gold/{name}": sql for name, sql in models.gold("lakebed").items()}
        for name, sql in statements.items():
            file = project / "sql" / f"{name}.sql"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(sql)

    def expect(self, project, sql, expected, table):
        rows = json.loads(self.execute([self.given.lakebed, "--project", project, "query", sql, "-o", "json"]))
        found = [int(float(rows[0]["n"])), int(float(rows[0]["total"]))]
        if found != expected:
            raise Failed(f"{table}: lakebed has count and sum {found}, the peer {expected}: nothing to compare")

    def peer(self, *words):
        return json.loads(self.execute([self.python, HERE / "peers.py", *words]))

    def lakebed(self, project, *words):
        """Runs a command of the product."""
        return self.process(self.given.lakebed, "--project", project, *words)

    def process(self, *words):
        """Runs a command; its figures are those of the whole process."""
        start = time.monotonic()
        process = subprocess.Popen(texts(words), stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise Failed(f"{' '.join(texts(words))} ended with {process.returncode}")
        return {"seconds": time.monotonic() - start, "cpu_seconds": used.ru_utime + used.ru_stime,
                "peak_bytes": used.ru_maxrss * bytes_of_maxrss()}

    def execute(self, command):
        done = subprocess.run(texts(command), stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Failed(f"{' '.join(texts(command))} ended with {done.returncode}")
        return done.stdout

    def add(self, work, who, rows, figures, out_bytes=None):
        say(f"  {work}, {who}: {figures['seconds']:.3f} s")
        figures = figures | {"rows": rows, "out_bytes": figures.get("out_bytes", out_bytes)}
        self.figures.setdefault(work, {}).setdefault(who, []).append(figures)

    def markdown(self):
        lines = [f"{datetime.date.today()} · {self.given.events:,} events, "
                 f"{self.events.stat().st_size / 1e6:,.0f} MB of NDJSON · medians of {self.given.runs} · {machine()}", ""]
        if not self.given.peers_only:
            version = self.execute([self.given.lakebed, "--version"]).strip()
            lines = [f"{version} · {lines[0]}", ""]
        lines += ["| work | who | s | rows/s | CPU s | peak MB | out MB | out MB/s | times lakebed's s |",
                  "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
        for work, engines in self.figures.items():
            if work not in self.given.only and not work.startswith("flight"):
                continue
            ours = median(engines.get("lakebed", []), "seconds")
            for who, runs in sorted(engines.items(), key=lambda item: item[0] != "lakebed"):
                lines.append(row(work, who, runs, ours))
        notes = [f"refresh: {self.later_count:,} new events, then all models; DuckDB's script rebuilds, as scripts do. "
                 "Its rows/s are the new events.",
                 "dbt-duckdb: silver incremental by event_id, gold anew; the whole process is timed, as lakebed's is.",
                 "duckdb-without-doc and polars do not keep the event's own text; chdb keeps it with 8 of 36 columns.",
                 "flight: the C++ server has the very table that lakebed answered, ready in memory: the ceiling, not an "
                 "engine. Both are read by turns."]
        return "\n".join(lines + [""] + [f"- {note}" for note in notes]) + "\n"


def row(work, who, runs, ours):
    seconds, out = median(runs, "seconds"), median(runs, "out_bytes")
    ratio = f"{seconds / ours:.2f}" if ours else "–"
    cells = [work, who, f"{seconds:.3f}", f"{median(runs, 'rows') / seconds:,.0f}", number(median(runs, "cpu_seconds"), 1, 1),
             number(median(runs, "peak_bytes"), 1e6, 0), number(out, 1e6, 1),
             number(out and out / seconds, 1e6, 0) if work.startswith("flight") else "–", ratio]
    return "| " + " | ".join(cells) + " |"


def number(value, unit, digits):
    return "–" if value is None else f"{value / unit:,.{digits}f}"


def median(runs, figure):
    values = [run[figure] for run in runs if run[figure] is not None]
    return statistics.median(values) if values else None


class Server:
    """A server process from the moment that it has said its address until it is stopped."""

    def __init__(self, command, log):
        self.command, self.log = texts(command), log
        self.address = self.peak_bytes = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = threading.Event()
        # Reads to the end: a server must not stall because nobody takes what it says.
        threading.Thread(target=self.listen, args=(said,), daemon=True).start()
        said.wait(START_SECONDS)
        if self.address is None:
            self.__exit__()
            raise Failed(f"{' '.join(self.command)} did not say where it listens; it said:\n{self.log.read_text()}")
        return self

    def listen(self, said):
        with open(self.log, "w", encoding="utf-8") as log:
            for line in self.process.stderr:
                log.write(line)
                log.flush()
                if found := re.search(r"flight sql\s+(grpc://\S+)", line):
                    self.address = found[1]
                    said.set()
        said.set()

    def __exit__(self, *_):
        os.kill(self.process.pid, signal.SIGTERM)  # not send_signal, which might reap it before wait4 does
        _, status, used = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.peak_bytes = used.ru_maxrss * bytes_of_maxrss()


def bytes_of_maxrss():
    return 1 if sys.platform == "darwin" else 1024


def machine():
    model, memory = platform.processor() or platform.machine(), None
    if sys.platform == "linux":
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores, {model}" + (
        f", {memory / 1e9:.0f} GB" if memory else "")


def size_of(path):
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path


def texts(command):
    return [str(word) for word in command]


def say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
