#!/usr/bin/env python3
"""What `lakebed serve` does under load: many dashboards, slow readers, clients that are killed, statements that cost too much.

    load.py [--lakebed PATH] [--events 1000000] [--connections 200] [--seconds 20]

Makes a lake in a temporary directory with the starter's twelve models, and asks its Flight SQL server over so many connections,
each of which asks again as soon as it has its answer: alone, beside clients that read a large result slowly, and beside statements
that exceed their memory or their time. Whoever is turned away waits as long as the server says and asks again; that wait is part of
the latency. In between, clients are killed while they read. Prints Markdown, and ends with 1 and one sentence where an answer was
wrong, an error was not the one to expect, or the server ended. Speed and memory are only printed. Needs Linux, adbc-driver-flightsql
and pyarrow. The clients take the server's cores: figures are comparable only within one run on one machine.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import itertools
import multiprocessing
import os
import pathlib
import queue
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What a page of charts asks, and its parameters; the rows have an order without ties, so that an answer is right or wrong.
QUESTIONS = [
    ("SELECT day, sum(events), sum(page_views), sum(purchases) FROM gold.daily_activity GROUP BY day ORDER BY day", None),
    ("SELECT country, sum(purchases), sum(revenue) FROM gold.revenue WHERE day >= ? AND currency = ? GROUP BY country"
     " ORDER BY country", [datetime.date(2026, 11, 2), "USD"]),
    ("SELECT hour, events, sessions FROM gold.hourly_traffic WHERE device = ? ORDER BY hour", ["mobile"]),
    ("SELECT page, views, users FROM gold.page_engagement ORDER BY views DESC, page LIMIT 10", None),
    ("SELECT day, sessions, viewed, added_to_cart, purchased FROM gold.conversion_funnel ORDER BY day", None),
]
LARGE = "SELECT * FROM bronze.events"

# What is not said here is as by default. By that, 1,000 may wait, and nobody here would be turned away.
SHORT_LINE = {"queries_waiting": 50}
TIGHT = {"query_memory": 64 << 20, "query_seconds": 10}
# What is too much for the tight one, and what whoever asks it is to be told.
COSTLY = [
    ("two lists of long texts joined", "SELECT count(*) FROM (SELECT concat(n, repeat('x', 1000)) AS text FROM generate_series(1, 1000000)"
     " AS a(n)) AS a JOIN (SELECT concat(n, repeat('x', 1000)) AS text FROM generate_series(1, 1000000) AS b(n)) AS b"
     " ON a.text = b.text", "ResourceExhausted"),
    ("every event beside every other", "SELECT count(*) FROM silver.events AS a JOIN silver.events AS b"
     " ON a.duration_ms < b.duration_ms AND a.clicks > b.clicks", "DeadlineExceeded"),
    ("a sum over a list without end", "SELECT sum(n % 7) FROM generate_series(1, 1000000000000) AS a(n)", "DeadlineExceeded"),
]

PROCESSES = 4       # of the dashboards: Python has one lock for all threads of a process
READERS = 20        # that are slow, and as many that are killed
PAUSE = 2.0         # seconds between two messages of a slow reader
PATIENCE = 120      # seconds after which a call has failed, and so often a client comes again
PUSHBACK = b"grpc-retry-pushback-ms"

# A process that was forked would have one of the driver's many threads.
spawn = multiprocessing.get_context("spawn")


class Failed(Exception):
    """Something that did not hold; the message says what."""


class Server:
    """`lakebed serve` with these limits, until it is closed."""

    def __init__(self, lakebed: pathlib.Path, shop: pathlib.Path, limits: dict[str, int]) -> None:
        settings = {f"LAKEBED_SERVE_{name.upper()}": str(value) for name, value in limits.items()}
        command = [lakebed, "--project", shop, "serve", "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE, text=True)
        self.proc = pathlib.Path(f"/proc/{self.process.pid}")
        addresses: dict[str, str] = {}
        while len(addresses) < 2:
            line = self.process.stderr.readline()
            if not line:
                raise Failed("the server did not start")
            if found := re.search(r"(grpc|http)://(\S+)$", line.strip()):
                addresses.setdefault(*found.groups())
        self.uri, self.metrics = f"grpc://{addresses['grpc']}", f"http://{addresses['http']}/metrics"
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def used(self) -> tuple[float, float, float]:
        """The time, the seconds that it has computed up to then, and the MB that it holds."""
        if self.process.poll() is not None:
            raise Failed(f"the server ended with {self.process.returncode}")
        fields = (self.proc / "stat").read_text().rsplit(")", 1)[1].split()
        return time.monotonic(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), self.memory("VmRSS")

    def memory(self, which: str) -> float:
        return int((self.proc / "status").read_text().split(f"{which}:")[1].split()[0]) / 1024

    def forget_peak(self) -> None:
        """What VmHWM says is counted from here."""
        (self.proc / "clear_refs").write_text("5")

    def streams(self) -> int:
        """Results under way, as it counts them."""
        with urllib.request.urlopen(self.metrics, timeout=PATIENCE) as metrics:
            return int(re.search(r"^lakebed_flight_active_streams (\d+)$", metrics.read().decode(), re.MULTILINE).group(1))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def connect(uri: str):
    option = adbc_driver_flightsql.DatabaseOptions
    limits = {name.value: str(PATIENCE) for name in (option.TIMEOUT_FETCH, option.TIMEOUT_QUERY, option.TIMEOUT_UPDATE)}
    return flightsql.connect(uri, db_kwargs=limits, autocommit=True)


def ask(cursor, sql: str, parameters: list | None) -> tuple[list[tuple], int]:
    """The rows, and how often the client was turned away before it got them."""
    for turned_away in range(PATIENCE):
        try:
            cursor.execute(sql, parameters)
            return cursor.fetchall(), turned_away
        except adbc_driver_manager.Error as error:
            pause = dict(error.details).get(PUSHBACK)
            if pause is None or "ResourceExhausted" not in str(error):
                raise Failed(f"{sql!r} was not answered: {error}") from error
            time.sleep(int(pause) / 1000)
    raise Failed(f"a client was turned away {PATIENCE} times, and never answered")


def all_answers(uri: str) -> list[list[tuple]]:
    with connect(uri) as lake, lake.cursor() as cursor:
        return [ask(cursor, *question)[0] for question in QUESTIONS]


@contextlib.contextmanager
def large_result(uri: str):
    """A reader of the large result; as little of it as the driver can do with waits at the client."""
    queue_size = {adbc_driver_flightsql.StatementOptions.QUEUE_SIZE.value: "1"}
    with connect(uri) as lake, lake.cursor(adbc_stmt_kwargs=queue_size) as cursor:
        try:
            cursor.execute(LARGE)
            yield cursor.fetch_record_batch()
        except (adbc_driver_manager.Error, pyarrow.ArrowException, OSError) as error:
            raise Failed(f"a large result was not read: {error}") from error


@contextlib.contextmanager
def clients(target, arguments: list[tuple]):
    """Processes that have told that they are ready or have begun, and what they tell after that. They are killed at the end."""
    told = spawn.Queue()
    processes = [spawn.Process(target=telling, args=(told, target, *of_one), daemon=True) for of_one in arguments]
    try:
        for process in processes:
            process.start()
        for process in processes:
            hear(told)
        yield processes, told
        # Of those that are to tell nothing more, one may have failed.
        if not told.empty():
            hear(told)
    finally:
        for process in processes:
            process.kill()
            process.join()


def telling(told, target, *arguments) -> None:
    try:
        target(told, *arguments)
    except Exception as error:  # noqa: BLE001: whatever it is, the process that waits is to hear of it.
        told.put(Failed(str(error)))


def hear(told, seconds: float = 0):
    """What one of the processes tells next, within so many seconds and a while."""
    try:
        said = told.get(timeout=seconds + 2 * PATIENCE)
    except queue.Empty:
        raise Failed("clients said nothing any more") from None
    if isinstance(said, Failed):
        raise said
    return said


def dashboards(told, begin, uri: str, connections: int, seconds: float, right: list[list[tuple]]) -> None:
    """Asks over so many connections from `begin` on; tells the latencies of each, and how often it was turned away."""

    def keep_asking(number: int) -> tuple[list[float], int]:
        latencies, turned_away, until = [], 0, time.monotonic() + seconds
        while (asked := time.monotonic()) < until:
            # Not all ask the same at the same time.
            which = (number + len(latencies)) % len(QUESTIONS)
            rows, refusals = ask(prepared[number][which], *QUESTIONS[which])
            latencies.append(time.monotonic() - asked)
            turned_away += refusals
            if rows != right[which]:
                raise Failed(f"{QUESTIONS[which][0]!r} has another answer under load")
        return latencies, turned_away

    with contextlib.ExitStack() as opened, concurrent.futures.ThreadPoolExecutor(connections) as pool:
        prepared = []
        for _ in range(connections):
            lake = opened.enter_context(connect(uri))
            prepared.append([opened.enter_context(lake.cursor()) for _ in QUESTIONS])
            for cursor, (sql, _) in zip(prepared[-1], QUESTIONS):
                cursor.adbc_prepare(sql)
        told.put("ready")
        begin.wait()
        told.put(list(pool.map(keep_asking, range(connections))))


def load(server: Server, what: str, given: argparse.Namespace, right: list, meanwhile=contextlib.nullcontext()) -> str:
    """All dashboards at once, within `meanwhile`; a row of the table."""
    shares = [len(range(at, given.connections, PROCESSES)) for at in range(PROCESSES)]
    begin = spawn.Event()
    arguments = [(begin, server.uri, share, given.seconds, right) for share in shares if share]
    with clients(dashboards, arguments) as (processes, told), meanwhile:
        server.forget_peak()
        first = server.used()
        begin.set()
        answers = [of_one for _ in processes for of_one in hear(told, given.seconds)]
        last, peak = server.used(), server.memory("VmHWM")
    lasted = last[0] - first[0]
    latencies = [seconds * 1000 for of_one, _ in answers for seconds in of_one]
    at = statistics.quantiles(latencies, n=100, method="inclusive")
    return (f"| {what} | {len(latencies):,} | {len(latencies) / lasted:,.0f} | {sum(refusals for _, refusals in answers):,} "
            f"| {at[49]:,.0f} ms | {at[98]:,.0f} ms | {max(latencies):,.0f} ms "
            f"| {cores(first, last):.2f} | {last[2]:,.0f} MB | {peak:,.0f} MB |")


def cores(first: tuple[float, float, float], last: tuple[float, float, float]) -> float:
    return (last[1] - first[1]) / (last[0] - first[0])


def reader(told, uri: str, pause: float) -> None:
    """Reads the large result again and again, with a pause before each message."""
    begun = False
    while True:
        with large_result(uri) as messages:
            for _ in messages:
                if not begun:
                    told.put("begun")
                begun = True
                time.sleep(pause)


def killed_readers(server: Server) -> None:
    """Prints what is left of clients in the server after they were killed while they read."""
    before = server.used()[2]
    with clients(reader, [(server.uri, 0)] * READERS) as (processes, _):
        used = [server.used()]
        time.sleep(1)
        used.append(server.used())
        for process in processes:
            process.kill()
        for _ in range(12):
            time.sleep(0.25)
            used.append(server.used())
    after = ["reading", *(f"{now - used[1][0]:.2f} s" for now, _, _ in used[2:])]
    busy = [cores(*pair) for pair in itertools.pairwise(used)]
    held = [memory for _, _, memory in used[1:]]
    print(f"\n{READERS} clients are killed while they read; before they came, the server held {before:,.0f} MB.\n")
    print("| after |", " | ".join(after), "|\n|---" + "|---:" * len(after) + "|")
    print("| cores |", " | ".join(f"{share:.2f}" for share in busy), "|")
    print("| MB |", " | ".join(f"{memory:,.0f}" for memory in held), "|")
    quiet = since(after, [share < 0.05 for share in busy])
    small = since(after, [memory <= max(before * 1.1, before + 50) for memory in held])
    print(f"\nIt needs less than 5% of a core {quiet}, and holds at most 10%, or 50 MB, more than before {small}.\n", flush=True)
    if streams := server.streams():
        raise Failed(f"the server still counts {streams} results under way of clients that were killed {after[-1]} before")


def since(after: list[str], holds: list[bool]) -> str:
    """From when on something holds, to the end."""
    begun = max((at + 1 for at, held in enumerate(holds) if not held), default=0)
    return f"after {after[max(begun, 1)]}" if begun < len(holds) else f"not after {after[-1]}"


@contextlib.contextmanager
def costly_statements(server: Server):
    """Another client that asks for too much, one statement after the other; prints what it was told."""
    rows = []

    def be_refused() -> None:
        with connect(server.uri) as lake, lake.cursor() as cursor:
            for what, sql, code in COSTLY:
                asked = time.monotonic()
                try:
                    cursor.execute(sql)
                    answer = f"the answer {cursor.fetchall()}"
                except adbc_driver_manager.Error as error:
                    answer = str(error) if PUSHBACK not in dict(error.details) else "to come again"
                took = time.monotonic() - asked
                # After so long it was the driver that gave up, in the same words.
                if f"({code};" not in answer or took >= PATIENCE:
                    raise Failed(f"{what} was to be told {code}, and was told {answer} after {took:.0f} s")
                rows.append(f"| {what} | {code} | {took:.1f} s |")

    try:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            refused = pool.submit(be_refused)
            yield
            refused.result()
    finally:
        print(f"| a statement that may have {TIGHT['query_memory'] >> 20} MiB and {TIGHT['query_seconds']} s | is told | after |")
        print("|---|---|---:|", *rows, "", sep="\n", flush=True)


def bench(given: argparse.Namespace, scratch: pathlib.Path, rows: list[str]) -> None:
    shop, events = scratch / "shop", scratch / "events.ndjson"
    run = lambda *words: subprocess.run([given.lakebed, "-q", *words], check=True, timeout=3600)  # noqa: E731
    run("init", shop)
    run("generate", "--events", str(given.events), "--to", events)
    run("--project", shop, "ingest", events)
    run("--project", shop, "run")
    events.unlink()
    with contextlib.closing(Server(given.lakebed, shop, SHORT_LINE)) as server:
        right, few = all_answers(server.uri), SHORT_LINE["queries_waiting"]
        with large_result(server.uri) as messages:
            sizes = [(batch.num_rows, batch.nbytes) for batch in messages]
        count, size, memory = sum(rows for rows, _ in sizes), sum(size for _, size in sizes), server.used()[2]
        if count != given.events:
            raise Failed(f"the large result has {count:,} rows of {given.events:,} events")
        print(f"{given.events:,} events, {given.connections} connections, {given.seconds:g} s each; a large result has "
              f"{size / 1e6:,.0f} MB, and after one the server holds {memory:,.0f} MB.", flush=True)
        rows.append(load(server, f"alone, {few} may wait", given, right))
        slow = clients(reader, [(server.uri, PAUSE)] * READERS)
        rows.append(load(server, f"beside {READERS} slow readers, {few} may wait", given, right, slow))
        killed_readers(server)
        if all_answers(server.uri) != right:
            raise Failed("an answer is another one after clients were killed")
    with contextlib.closing(Server(given.lakebed, shop, TIGHT)) as server:
        rows.append(load(server, "beside costly statements, 1,000 may wait", given, right, costly_statements(server)))
        if all_answers(server.uri) != right:
            raise Failed("an answer is another one after statements that cost too much")


def main() -> int:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lakebed", type=pathlib.Path, default=target / "release" / "lakebed", help="default: %(default)s")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    if not given.lakebed.is_file():
        parser.error(f"no lakebed at {given.lakebed}: cargo build --release, or --lakebed PATH")
    if given.events < 100_000:
        parser.error("at least 100,000 events: of fewer, nothing here takes long")
    given.lakebed = given.lakebed.resolve()
    failed, rows = None, []
    with tempfile.TemporaryDirectory(prefix="lakebed-load-") as scratch:
        try:
            bench(given, pathlib.Path(scratch), rows)
        except Failed as failure:
            failed = failure
    print("| dashboards | answers | a second | turned away | p50 | p99 | longest | cores | at the end | peak |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|", *rows, sep="\n", flush=True)
    if failed:
        print("did not hold:", " ".join(str(failed).split()), file=sys.stderr)
    return int(failed is not None)


if __name__ == "__main__":
    sys.exit(main())
