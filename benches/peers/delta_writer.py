"""A plain delta-rs writer: appends batches to a Delta table one after the other, as its documentation says.

    delta_writer.py DIRECTORY make                     makes the table
    delta_writer.py DIRECTORY WRITER BATCHES ROWS      prints `ready`, waits for a line, prints `APPENDED REFUSED`
"""

import sys

import deltalake
import pyarrow


def rows(writer, batch, count):
    ids = [f"{writer}-{batch}-{row}" for row in range(count)]
    return pyarrow.table({
        "event_id": ids,
        "event_type": ["view"] * count,
        "event_date": ["2026-11-01"] * count,
        "n": pyarrow.array(range(count), pyarrow.int64()),
        "_doc": ['{"event_id":"%s","event_type":"view","n":1}' % name for name in ids],
    })


def main():
    directory, writer = sys.argv[1], sys.argv[2]
    if writer == "make":
        deltalake.write_deltalake(directory, rows("first", 0, 1), partition_by=["event_date"])
        return
    tables = [rows(writer, batch, int(sys.argv[4])) for batch in range(int(sys.argv[3]))]
    print("ready", flush=True)
    sys.stdin.readline()
    refused = 0
    for table in tables:
        try:
            deltalake.write_deltalake(directory, table, mode="append")
        except Exception:  # what delta-rs gives up after its retries
            refused += 1
    print(len(tables) - refused, refused, flush=True)


if __name__ == "__main__":
    main()
