"""Reads a log with engines that know nothing of lakebed, and compares what they see with what was written.

    foreign_readers.py LOG_DIR EXPECTED.json

deltalake, pyarrow (through deltalake), polars and DuckDB's delta_scan each read the Delta table at LOG_DIR. Every
difference is one line on stdout and makes the exit code 1. Writers are tried too, on a copy: deltalake must refuse to
append to the log and to optimize it, and must say that our writer feature is why.

EXPECTED.json, all keys required unless marked:
    version        the table's version
    columns        its column names, in order
    rows           its rows
    rows_by_date   {"2026-11-01": rows, ...}: rows per event_date, which is null under "null" if the log has such
    sum            {"column": NAME, "value": INTEGER}: the sum of one BIGINT column
    event_time_us  {"min": INTEGER, "max": INTEGER}: microseconds since 1970, UTC
    filled         {"_offset": ROWS, ...}: rows in which a column is not null, for each column
    versions       [{"version": N, "rows": ROWS, "columns": [...] (optional), "time_ms": T (optional)}, ...]: older
                   versions to travel to; time_ms is the version's in-commit timestamp
"""

import datetime
import json
import pathlib
import shutil
import sys
import tempfile

import deltalake
import duckdb
import duckdb_extension_delta
import polars
import pyarrow
import pyarrow.compute

WRITER_FEATURE = "lakebedLog"


def main(log, expected_path):
    expected = json.loads(pathlib.Path(expected_path).read_text())
    readers = [
        ("deltalake " + deltalake.__version__, read_with_deltalake, at_version_with_deltalake),
        ("pyarrow " + pyarrow.__version__, read_with_pyarrow, None),
        ("polars " + polars.__version__, read_with_polars, at_version_with_polars),
        ("duckdb " + duckdb.__version__, read_with_duckdb, at_version_with_duckdb),
    ]
    differences = []
    for reader, read, at_version in readers:
        found = attempt(differences, reader, "reading the log", read, log, expected)
        if found is not None:
            differences += [f"{reader}: {line}" for line in compare(expected, found)]
        for version in expected["versions"] if at_version else []:
            what = f"reading version {version['version']}"
            found = attempt(differences, reader, what, at_version, log, version["version"])
            wanted = {key: version[key] for key in ("rows", "columns") if key in version}
            for key, value in wanted.items() if found else []:
                if found[key] != value:
                    differences.append(f"{reader}: {what}: {key} is {found[key]!r}, expected {value!r}")
    differences += times_of_versions(log, expected)
    differences += writers_that_were_let_in(log)
    for line in differences:
        print(line)
    if not differences:
        print(f"version {expected['version']} with {expected['rows']} rows is the same for "
              + ", ".join(reader for reader, _, _ in readers) + "; deltalake's writers are refused")
    return 1 if differences else 0


def attempt(differences, reader, what, function, *arguments):
    """The function's answer, or None and a difference: one reader's failure must not hide what the others see."""
    try:
        return function(*arguments)
    except Exception as error:  # any failure of a foreign engine is a finding
        differences.append(f"{reader}: {what} failed: {type(error).__name__}: {one_line(error)}")
        return None


def compare(expected, found):
    for key in ("columns", "rows", "rows_by_date", "event_time_us"):
        if found[key] != expected[key]:
            yield f"{key} is {found[key]!r}, expected {expected[key]!r}"
    if found["sum"] != expected["sum"]["value"]:
        yield f"the sum of {expected['sum']['column']} is {found['sum']}, expected {expected['sum']['value']}"
    for column, filled in expected["filled"].items():
        if found["filled"][column] != filled:
            yield f"{column} has a value in {found['filled'][column]} rows, expected {filled}"


def read_with_deltalake(log, expected):
    table = deltalake.DeltaTable(log)
    if table.version() != expected["version"]:
        raise ValueError(f"the newest version is {table.version()}, expected {expected['version']}")
    return facts_of_arrow(table.to_pyarrow_table(), expected)


def read_with_pyarrow(log, expected):
    """The dataset's own scanner, day by day, so that partition pruning is asked as well."""
    dataset = deltalake.DeltaTable(log).to_pyarrow_dataset()
    days = [None if day == "null" else datetime.date.fromisoformat(day) for day in expected["rows_by_date"]]
    field = pyarrow.compute.field("event_date")
    parts = [dataset.to_table(filter=field.is_null() if day is None else field == day) for day in days]
    return facts_of_arrow(pyarrow.concat_tables(parts) if parts else dataset.to_table(), expected)


def facts_of_arrow(table, expected):
    compute = pyarrow.compute
    times = compute.min_max(table["event_time"].cast(pyarrow.timestamp("us", "UTC")).cast(pyarrow.int64())).as_py()
    dates = compute.value_counts(table["event_date"].combine_chunks()).to_pylist()
    return {
        "columns": table.column_names,
        "rows": table.num_rows,
        "rows_by_date": by_date((pair["values"], pair["counts"]) for pair in dates),
        "sum": compute.sum(table[expected["sum"]["column"]]).as_py(),
        "event_time_us": times,
        "filled": {name: len(table) - table[name].null_count for name in expected["filled"]},
    }


def at_version_with_deltalake(log, version):
    table = deltalake.DeltaTable(log, version=version).to_pyarrow_table()
    return {"rows": table.num_rows, "columns": table.column_names}


def read_with_polars(log, expected):
    frame = polars.scan_delta(log)
    time = polars.col("event_time").dt.epoch("us")
    columns = list(expected["filled"])
    row = frame.select(
        polars.len().alias("rows"), polars.col(expected["sum"]["column"]).sum().alias("sum"),
        time.min().alias("min"), time.max().alias("max"),
        *[polars.col(name).count().alias(f"filled {name}") for name in columns],
    ).collect().row(0, named=True)
    dates = frame.group_by("event_date").agg(polars.len()).collect().iter_rows()
    return {
        "columns": frame.collect_schema().names(),
        "rows": row["rows"],
        "rows_by_date": by_date(dates),
        "sum": row["sum"],
        "event_time_us": {"min": row["min"], "max": row["max"]},
        "filled": {name: row[f"filled {name}"] for name in columns},
    }


def at_version_with_polars(log, version):
    frame = polars.scan_delta(log, version=version)
    return {"rows": frame.select(polars.len()).collect().item(), "columns": frame.collect_schema().names()}


def read_with_duckdb(log, expected):
    return facts_of_duckdb(f"delta_scan({text(log)})", expected)


def facts_of_duckdb(source, expected):
    connection = duckdb_with_delta()
    columns = list(expected["filled"])
    summed = identifier(expected["sum"]["column"])
    # The sum of a BIGINT is a HUGEINT, which comes out as a Python integer.
    rows, total, first, last, *filled = connection.execute(
        f"SELECT count(*), sum({summed}), epoch_us(min(event_time)), epoch_us(max(event_time))"
        + "".join(f", count({identifier(name)})" for name in columns) + f" FROM {source}").fetchone()
    dates = connection.execute(f"SELECT event_date, count(*) FROM {source} GROUP BY ALL").fetchall()
    return {
        "columns": columns_of_duckdb(connection, source),
        "rows": rows,
        "rows_by_date": by_date(dates),
        "sum": total,
        "event_time_us": {"min": first, "max": last},
        "filled": dict(zip(columns, filled)),
    }


def at_version_with_duckdb(log, version):
    connection = duckdb_with_delta()
    connection.execute(f"ATTACH {text(log)} AS log (TYPE delta, VERSION {int(version)})")
    rows = connection.execute("SELECT count(*) FROM log").fetchone()[0]
    return {"rows": rows, "columns": columns_of_duckdb(connection, "log")}


def columns_of_duckdb(connection, source):
    return [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]


def duckdb_with_delta():
    """DuckDB with its Delta extension from PyPI: loaded by path, and checked by DuckDB against its makers' signature."""
    package = pathlib.Path(duckdb_extension_delta.__file__).parent
    extension = package / "extensions" / f"v{duckdb.__version__}" / "delta.duckdb_extension"
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute(f"LOAD {text(extension)}")
    return connection


def times_of_versions(log, expected):
    """What deltalake's history says of each version's in-commit timestamp, against what was written."""
    history = {entry["version"]: entry for entry in deltalake.DeltaTable(log).history()}
    for version in expected["versions"]:
        found = history.get(version["version"], {}).get("inCommitTimestamp")
        if "time_ms" in version and found != version["time_ms"]:
            yield (f"deltalake {deltalake.__version__}: version {version['version']} was committed at {found}, "
                   f"expected {version['time_ms']}")


def writers_that_were_let_in(log):
    """deltalake's append and optimize, on a copy of the log; each must fail and name our feature."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(log, pathlib.Path(scratch) / "log")
        before = deltalake.DeltaTable(copy).version()
        row = deltalake.DeltaTable(copy).to_pyarrow_table().slice(0, 1)
        attempts = [
            ("an append", lambda: deltalake.write_deltalake(copy, row, mode="append")),
            ("an optimize", lambda: deltalake.DeltaTable(copy).optimize.compact()),
        ]
        for what, write in attempts:
            try:
                write()
                now = deltalake.DeltaTable(copy).version()
                yield f"deltalake {deltalake.__version__}: {what} was not refused (version {before}, now {now})"
            except Exception as error:
                if WRITER_FEATURE not in str(error):
                    yield (f"deltalake {deltalake.__version__}: {what} was refused, but not because of "
                           f"{WRITER_FEATURE}: {one_line(error)}")
        if deltalake.DeltaTable(copy).version() != before:
            yield f"deltalake {deltalake.__version__}: a refused write moved the version"


def by_date(pairs):
    counts = {"null" if day is None else day.isoformat(): count for day, count in pairs}
    return dict(sorted(counts.items()))


def text(value):
    return "'" + str(value).replace("'", "''") + "'"


def identifier(name):
    return '"' + name.replace('"', '""') + '"'


def one_line(error):
    return " ".join(str(error).split())[:500]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: foreign_readers.py LOG_DIR EXPECTED.json", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1], sys.argv[2]))
