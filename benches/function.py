#!/usr/bin/env python3
"""The Lambda function under a runtime API of this script's own: how large it is, how soon it is ready, what a call takes.

    function.py [--bootstrap PATH] [--calls 30] [--memory 64]

Starts the release binary `bootstrap` over a lake in a temporary directory and prints Markdown: its size as it would be uploaded
(stripped), the time from exec to its first poll, and for calls with 1, 100 and 1,000 events of about 1 KB the time from the answer
to its poll to its own answer, and the peak of its memory. With --memory, all of it runs in a control group with so many MB (needs
root); 0 leaves that out. Figures are comparable only within one run on one machine.
"""

import argparse
import http.server
import json
import os
import pathlib
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Runtime(http.server.ThreadingHTTPServer):
    """The four endpoints of the runtime API that a function uses."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.polled: queue.Queue[float] = queue.Queue()
        self.payloads: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[tuple[float, str, bytes]] = queue.Queue()
        self.sent = 0.0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def call(self, payload: bytes) -> tuple[float, dict]:
        """Seconds from handing the payload over to the answer, and the answer."""
        self.payloads.put(payload)
        at, path, body = self.answers.get(timeout=60)
        if not path.endswith("/response"):
            raise SystemExit(f"the function failed: {body.decode()}")
        return at - self.sent, json.loads(body)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes in one piece: a second small one would wait for the first to be acknowledged.
    wbufsize = -1

    def do_GET(self) -> None:
        self.server.polled.put(time.perf_counter())
        payload = self.server.payloads.get()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 60_000))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:bench")
        self.send_header("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
        self.server.sent = time.perf_counter()
        self.wfile.flush()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.answers.put((time.perf_counter(), self.path, body))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


class Group:
    """A control group with a limit of memory, of either version, for the children that enter it."""

    def __init__(self, megabytes: int) -> None:
        self.path = None
        if not megabytes:
            return
        root = pathlib.Path("/sys/fs/cgroup")
        unified = (root / "cgroup.controllers").exists()
        self.path = (root if unified else root / "memory") / f"lakebed-bench-{os.getpid()}"
        self.most = "memory.peak" if unified else "memory.max_usage_in_bytes"
        try:
            self.path.mkdir()
            (self.path / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(megabytes << 20))
        except OSError as error:
            raise SystemExit(f"no control group of {megabytes} MB: {error}\nhint: run as root, or give --memory 0") from error

    def enter(self) -> None:
        if self.path:
            (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self) -> int | None:
        """The highest that it held, in bytes; what the kernel kept of files counts, too."""
        return int((self.path / self.most).read_text()) if self.path else None

    def close(self) -> None:
        if self.path:
            self.path.rmdir()


def start(bootstrap: pathlib.Path, runtime: Runtime, lake: str, group: Group) -> tuple[subprocess.Popen, float]:
    """A function, and the seconds from its start to its first poll."""
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "LAKEBED_LAKE_URL": lake,
        "LAKEBED_PROJECT_NAME": "bench",
    }
    began = time.perf_counter()
    process = subprocess.Popen([bootstrap], env=environment, preexec_fn=group.enter)
    return process, runtime.polled.get(timeout=30) - began


def peak_of(process: subprocess.Popen) -> int:
    """The most memory that was the process's own, in MB."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", type=pathlib.Path, default=target / "release" / "bootstrap")
    parser.add_argument("--lakebed", type=pathlib.Path, default=target / "release" / "lakebed", help="generates the events")
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--memory", type=int, default=64, metavar="MB")
    arguments = parser.parse_args()
    for binary in (arguments.bootstrap, arguments.lakebed):
        if not binary.exists():
            sys.exit(f"there is no {binary}\nhint: cargo build --release --workspace --bin bootstrap --bin lakebed")
    group = Group(arguments.memory)
    with tempfile.TemporaryDirectory() as directory:
        stripped = pathlib.Path(directory) / "bootstrap"
        shutil.copy(arguments.bootstrap, stripped)
        subprocess.run(["strip", stripped], check=True)
        ready = []
        for _ in range(10):
            runtime = Runtime()
            process, seconds = start(stripped, runtime, f"{directory}/lake", group)
            ready.append(seconds)
            process.kill()
            process.wait()
            runtime.server_close()
        print(f"size        {stripped.stat().st_size / 1e6:.1f} MB stripped, {arguments.bootstrap.stat().st_size / 1e6:.1f} MB as built")
        print(f"first poll  {statistics.median(ready) * 1e3:.1f} ms after exec, median of {len(ready)}; {max(ready) * 1e3:.1f} at most\n")
        print("| events a call | KB | ms, median | ms, at most | events/s | peak MB |")
        print("|---:|---:|---:|---:|---:|---:|")
        first = 0
        for events in (1, 100, 1000):
            runtime = Runtime()
            process, _ = start(stripped, runtime, f"{directory}/lake-{events}", group)
            took, size = [], 0
            for _ in range(arguments.calls):
                command = [arguments.lakebed, "generate", "--events", str(events), "--first", str(first)]
                lines = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
                payload = b"[" + b",".join(lines) + b"]"
                first += events
                seconds, answer = runtime.call(payload)
                if answer["accepted"] != events:
                    sys.exit(f"of {events} events: {answer}")
                runtime.polled.get(timeout=30)
                took.append(seconds)
                size = max(size, len(payload))
            median = statistics.median(took)
            print(f"| {events} | {size // 1000} | {median * 1e3:.1f} | {max(took) * 1e3:.1f} | {events / median:,.0f} | {peak_of(process)} |")
            process.kill()
            process.wait()
            runtime.server_close()
        peak = group.peak()
        if peak:
            print(f"\nin a control group of {arguments.memory} MB, of which {peak / 1e6:.0f} were used at most, files that the kernel kept among them")
    group.close()


if __name__ == "__main__":
    main()
