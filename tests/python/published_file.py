"""Opens a published DuckDB file with the DuckDB 1.x that people have, and reads every table of it.

    published_file.py FILE.duckdb

Ends with 1 and the reason where a table has not the rows that its watermark says.
"""

import sys

import duckdb


def main(path):
    connection = duckdb.connect()
    connection.execute("ATTACH '" + path.replace("'", "''") + "' AS lake (READ_ONLY)")
    watermarks = connection.execute("SELECT model, rows FROM lake.lakebed.watermarks ORDER BY model").fetchall()
    for model, rows in watermarks:
        schema, table = model.split(".", 1)
        read = connection.execute(f'SELECT * FROM lake."{schema}"."{table}"').fetch_arrow_table()
        if read.num_rows != rows:
            sys.exit(f"{model} has {read.num_rows} rows, its watermark says {rows}")
    print(f"duckdb {duckdb.__version__} read {len(watermarks)} tables")


main(sys.argv[1])
