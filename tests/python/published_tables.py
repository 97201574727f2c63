"""Reads published Delta tables with engines that know nothing of lakebed, and compares what they see with what was written.

    published_tables.py TABLES_DIR EXPECTED.json [--spark JARS_DIR]

deltalake (through pyarrow), polars and DuckDB's delta_scan read each table; with --spark, Spark does instead. Every
difference is one line on stdout and makes the exit code 1.

EXPECTED.json: {"gold/daily": {"rows": N, "filled": {COLUMN: ROWS with a value}, "sums": {COLUMN: INTEGER}}, ...}
"""

import json
import pathlib
import sys


def main(tables, expected_path, jars):
    expected = json.loads(pathlib.Path(expected_path).read_text())
    differences = []
    for reader, read in readers(jars):
        for name, facts in expected.items():
            found = read(pathlib.Path(tables) / name, facts)
            for kind, value in facts.items():
                if found[kind] != value:
                    differences.append(f"{reader}: {name}: {kind} is {found[kind]!r}, expected {value!r}")
    for line in differences:
        print(line)
    return 1 if differences else 0


def readers(jars):
    if jars:
        return [("spark", spark_reader(jars))]
    return [("deltalake", with_deltalake), ("polars", with_polars), ("duckdb", with_duckdb)]


def with_deltalake(table, facts):
    import deltalake
    import pyarrow.compute

    rows = deltalake.DeltaTable(table).to_pyarrow_table()
    return {
        "rows": rows.num_rows,
        "filled": {name: rows.num_rows - rows[name].null_count for name in rows.column_names},
        "sums": {name: pyarrow.compute.sum(rows[name]).as_py() or 0 for name in facts["sums"]},
    }


def with_polars(table, facts):
    import polars

    rows = polars.scan_delta(str(table)).collect()
    return {
        "rows": rows.height,
        "filled": {name: rows[name].count() for name in rows.columns},
        "sums": {name: rows[name].sum() for name in facts["sums"]},
    }


def with_duckdb(table, facts):
    from foreign_readers import duckdb_with_delta, identifier, text

    connection = duckdb_with_delta()
    source = f"delta_scan({text(table)})"
    names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
    return facts_of_sql(names, facts, identifier, lambda sql: connection.execute(f"{sql} FROM {source}").fetchone())


def facts_of_sql(names, facts, identifier, ask):
    counts = ", ".join(f"count({identifier(name)})" for name in names)
    sums = "".join(f", coalesce(sum({identifier(name)}), 0)" for name in facts["sums"])
    rows, *numbers = ask(f"SELECT count(*), {counts}{sums}")
    return {
        "rows": rows,
        "filled": dict(zip(names, numbers)),
        "sums": dict(zip(facts["sums"], numbers[len(names):])),
    }


def spark_reader(jars):
    import tempfile

    from spark_reader import identifier, start, table as named

    scratch = tempfile.TemporaryDirectory()
    spark = start(pathlib.Path(scratch.name), pathlib.Path(jars).resolve())

    def read(table, facts, _scratch=scratch):
        source = named(pathlib.Path(table).resolve())
        names = spark.sql(f"SELECT * FROM {source}").columns
        return facts_of_sql(names, facts, identifier, lambda sql: spark.sql(f"{sql} FROM {source}").first())

    return read


if __name__ == "__main__":
    match sys.argv[1:]:
        case [tables, expected_path]:
            sys.exit(main(tables, expected_path, None))
        case [tables, expected_path, "--spark", jars]:
            sys.exit(main(tables, expected_path, jars))
    print("usage: published_tables.py TABLES_DIR EXPECTED.json [--spark JARS_DIR]", file=sys.stderr)
    sys.exit(2)
