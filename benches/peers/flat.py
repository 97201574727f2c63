#!/usr/bin/env python3
"""What 10,000 new events cost after histories of many sizes, as numbers and as a picture.

    flat.py [--lakebed PATH] [--sizes 100000,1000000,10000000] [--svg FILE] [--work DIR]

One project with one deduplicated silver table and four gold ones (models.py) grows by days, users and pages. At each size
10,000 events more are ingested, and the run that takes them up is timed: the whole process, publication in DuckDB included.
Beside it stand the rows that it decoded, the bytes that it read, and what DuckDB takes to rebuild the same tables by its
script (--rebuild-up-to, since that grows). Needs the peers' environment, see side_by_side.py.
"""

import argparse
import json
import math
import pathlib
import shutil
import sys

import side_by_side
from side_by_side import environment, remove, say

NEW = 10_000


def main():
    return side_by_side.in_directory(arguments(), "lakebed-flat-", draw)


def draw(given, work):
    points = measure(given, work)
    print("| events before | s | CPU s | rows decoded | bytes read | DuckDB's script, s |")
    print("|---:|---:|---:|---:|---:|---:|")
    for point in points:
        rebuild = f"{point['rebuild']:.2f}" if point["rebuild"] else "–"
        print(f"| {point['events']:,} | {point['seconds']:.3f} | {point['cpu']:.3f} | {point['rows']:,} | "
              f"{point['bytes']:,} | {rebuild} |")
    first, last = points[0], points[-1]
    for figure in ["seconds", "rows", "bytes"]:
        print(f"- {figure}, {last['events']:,} before beside {first['events']:,}: {last[figure] / first[figure]:.2f}")
    if given.svg:
        pathlib.Path(given.svg).write_text(picture(points))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lakebed", type=pathlib.Path, default=side_by_side.default_binary())
    parser.add_argument("--sizes", default="100000,1000000,10000000")
    parser.add_argument("--runs", type=int, default=3, help="timed runs at each size; the median counts")
    parser.add_argument("--rebuild-up-to", type=int, default=10_000_000)
    parser.add_argument("--svg")
    parser.add_argument("--work")
    given = parser.parse_args()
    given.sizes = [int(size) for size in given.sizes.split(",")]
    if not given.lakebed.is_file():
        parser.error(f"no lakebed at {given.lakebed}: cargo build --release, or --lakebed PATH")
    # What the bench of side_by_side asks its caller.
    given.events, given.peers_only, given.only = NEW, False, []
    return given


def measure(given, work):
    bench = side_by_side.Bench(given, work, environment())
    project, points, have, piece = work / "project", [], 0, 0
    bench.start_project(project)
    for size in given.sizes:
        while have < size:
            count = min(1_000_000, size - have)
            piece += 1
            ingest(bench, project, piece, count)
            have += count
        bench.lakebed(project, "run")
        timed = []
        for _ in range(given.runs):
            piece += 1
            ingest(bench, project, piece, NEW)
            have += NEW
            timed.append(bench.lakebed(project, "run"))
            say(f"  {have:,} events: {timed[-1]['seconds']:.3f} s")
        models = json.loads(bench.execute([given.lakebed, "--project", project, "explain", "-o", "json"]))
        timed.sort(key=lambda run: run["seconds"])
        middle = timed[len(timed) // 2]
        points.append({
            "events": size,
            "seconds": middle["seconds"],
            "cpu": middle["cpu_seconds"],
            "rows": sum(model["last_rows_read"] for model in models),
            "bytes": sum(model["last_bytes_read"] for model in models),
            "rebuild": rebuild(bench, project, work) if size <= given.rebuild_up_to else None,
        })
    return points


def ingest(bench, project, piece, count):
    events = bench.generate("piece", count, 1000 + piece)
    bench.lakebed(project, "ingest", events, "--batch-id", f"piece-{piece}")
    events.unlink()


def rebuild(bench, project, work):
    """Seconds of DuckDB's script over the log's own files."""
    parquet = work / "parquet"
    remove(parquet)
    shutil.copytree(project / "lake" / "events", parquet, ignore=shutil.ignore_patterns("_*"))
    return bench.peer("models", parquet, remove(work / "rebuild.duckdb"))["seconds"]


def picture(points):
    """Seconds over events before, both axes logarithmic in events and plain in seconds."""
    width, height, left, bottom, top, right = 720, 320, 64, 48, 40, 150
    most = max(max(point["seconds"], point["rebuild"] or 0) for point in points) * 1.15
    low, high = math.log10(points[0]["events"]), math.log10(points[-1]["events"])
    across = lambda events: left + (math.log10(events) - low) / max(high - low, 1e-9) * (width - left - right)
    up = lambda seconds: height - bottom - seconds / most * (height - top - bottom)
    line = lambda figure: " ".join(f"{across(p['events']):.1f},{up(p[figure]):.1f}" for p in points if p[figure])
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             f'<text x="{left}" y="22" font-size="15">Seconds to take up {NEW:,} new events, five models, published</text>']
    for at in range(5):
        seconds = most * at / 4
        parts.append(f'<line x1="{left}" y1="{up(seconds):.1f}" x2="{width - right}" y2="{up(seconds):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{up(seconds) + 4:.1f}" text-anchor="end">{seconds:.1f}</text>')
    for point in points:
        parts.append(f'<text x="{across(point["events"]):.1f}" y="{height - bottom + 20}" text-anchor="middle">{point["events"]:,}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">events before</text>')
    for figure, colour, name in [("rebuild", "#b0562f", "DuckDB’s script"), ("seconds", "#1f5f8b", "lakebed run")]:
        drawn = [point for point in points if point[figure]]
        parts.append(f'<polyline points="{line(figure)}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        for point in drawn:
            parts.append(f'<circle cx="{across(point["events"]):.1f}" cy="{up(point[figure]):.1f}" r="4" fill="{colour}"/>')
        if drawn:
            end = drawn[-1]
            parts.append(f'<text x="{across(end["events"]) + 10:.1f}" y="{up(end[figure]) + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
