"""What a user would pick instead, doing the same work; started by side_by_side.py, one process for each figure.

    peers.py ingest NAME EVENTS.ndjson OUT       NDJSON to Parquet by day: duckdb, duckdb-without-doc, polars, chdb
    peers.py models PARQUET_DIR DATABASE         silver and gold in DuckDB, from nothing
    peers.py check DATABASE                      what must be the same on both sides
    peers.py save LAKEBED SQL TABLE.arrow        keeps what lakebed answers over Flight SQL
    peers.py serve TABLE.arrow                   an Arrow C++ Flight server with that table in memory
    peers.py read ROUNDS LAKEBED SQL SERVER      reads both to their end, by turns, ROUNDS times

One JSON line on stdout, of all but save and serve. The clock starts after the imports: an engine is not charged for Python's start.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import time

import models

FLAT = """event_id, event_type, event_time::TIMESTAMPTZ AS event_time, source, schema_version,
  "user".user_id AS user_user_id, "user".anonymous_id AS user_anonymous_id, "user".is_new AS user_is_new,
  "user".plan AS user_plan, session.session_id AS session_session_id, session.sequence AS session_sequence,
  session.started_at AS session_started_at, user_agent.browser AS user_agent_browser,
  user_agent.browser_version AS user_agent_browser_version, user_agent.os AS user_agent_os,
  user_agent.device AS user_agent_device, user_agent.raw AS user_agent_raw, location.country AS location_country,
  location.region AS location_region, location.city AS location_city, location.latitude AS location_latitude,
  location.longitude AS location_longitude, location.timezone AS location_timezone, location.ip AS location_ip,
  page.url AS page_url, page.referrer AS page_referrer, page.title AS page_title,
  engagement.duration_ms AS engagement_duration_ms, engagement.scroll_depth AS engagement_scroll_depth,
  engagement.clicks AS engagement_clicks, to_json(engagement.interactions) AS engagement_interactions,
  properties.experiment AS properties_experiment, properties.price AS properties_price,
  properties.currency AS properties_currency, properties.quantity AS properties_quantity,
  event_time::DATE AS event_date"""

SHAPE = json.dumps({
    "event_id": "VARCHAR", "event_type": "VARCHAR", "event_time": "TIMESTAMP", "source": "VARCHAR",
    "schema_version": "INTEGER",
    "user": {"user_id": "VARCHAR", "anonymous_id": "VARCHAR", "is_new": "BOOLEAN", "plan": "VARCHAR"},
    "session": {"session_id": "VARCHAR", "sequence": "BIGINT", "started_at": "TIMESTAMP"},
    "user_agent": {name: "VARCHAR" for name in ("browser", "browser_version", "os", "device", "raw")},
    "location": {"country": "VARCHAR", "region": "VARCHAR", "city": "VARCHAR", "latitude": "DOUBLE",
                 "longitude": "DOUBLE", "timezone": "VARCHAR", "ip": "VARCHAR"},
    "page": {"url": "VARCHAR", "referrer": "VARCHAR", "title": "VARCHAR"},
    "engagement": {"duration_ms": "BIGINT", "scroll_depth": "DOUBLE", "clicks": "BIGINT", "interactions": "JSON"},
    "properties": {"experiment": "VARCHAR", "price": "DOUBLE", "currency": "VARCHAR", "quantity": "BIGINT"},
})

TO_PARQUET = "(FORMAT PARQUET, PARTITION_BY (event_date), COMPRESSION ZSTD, COMPRESSION_LEVEL 1)"


def ingest_with_duckdb(source, out):
    """With the event's own text kept, as lakebed keeps it: the lines are read as text and parsed once."""
    import duckdb
    yield
    duckdb.connect().execute(f"""COPY (SELECT {FLAT}, line AS _doc FROM (SELECT line, unnest(from_json(line, '{SHAPE}'))
      FROM read_csv('{source}', columns={{'line': 'VARCHAR'}}, delim='\\x01', quote='', escape='', header=false,
      auto_detect=false))) TO '{out}' {TO_PARQUET}""")


def ingest_with_duckdb_without_doc(source, out):
    import duckdb
    yield
    duckdb.connect().execute(f"""COPY (SELECT {FLAT}
      FROM read_json('{source}', format='newline_delimited', sample_size=20000)) TO '{out}' {TO_PARQUET}""")


def ingest_with_polars(source, out):
    """Without the event's own text."""
    import polars
    yield
    frame = polars.scan_ndjson(source, infer_schema_length=2000)
    columns = []
    for name, kind in frame.collect_schema().items():
        if isinstance(kind, polars.Struct):
            columns += [polars.col(name).struct.field(part.name).alias(f"{name}_{part.name}") for part in kind.fields]
        elif name == "event_time":
            columns.append(polars.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_zone="UTC"))
        else:
            columns.append(polars.col(name))
    frame = frame.select(columns).with_columns(event_date=polars.col("event_time").dt.date())
    frame.sink_parquet(polars.PartitionBy(out, key="event_date"), compression="zstd", compression_level=1, mkdir=True)


def ingest_with_chdb(source, out):
    """ClickHouse in the process, with the event's own text and 8 of the 36 columns."""
    import chdb
    yield
    chdb.query(f"""INSERT INTO FUNCTION file('{out}/{{_partition_id}}.parquet', 'Parquet')
      PARTITION BY toDate(event_time)
      SELECT JSONExtractString(line, 'event_id') event_id, JSONExtractString(line, 'event_type') event_type,
        parseDateTime64BestEffort(JSONExtractString(line, 'event_time'), 3, 'UTC') event_time,
        JSONExtractString(line, 'user', 'user_id') user_user_id,
        JSONExtractString(line, 'session', 'session_id') session_session_id,
        JSONExtractString(line, 'location', 'country') location_country,
        JSONExtractString(line, 'page', 'url') page_url,
        JSONExtractInt(line, 'engagement', 'duration_ms') engagement_duration_ms, line AS _doc
      FROM file('{source}', 'LineAsString', 'line String') SETTINGS output_format_parquet_compression_method='zstd'""")


INGEST = {"duckdb": ingest_with_duckdb, "duckdb-without-doc": ingest_with_duckdb_without_doc,
          "polars": ingest_with_polars, "chdb": ingest_with_chdb}


def ingest(name, source, out):
    os.makedirs(out)
    figures = timed(INGEST[name](source, out))
    figures["out_bytes"] = sum(os.path.getsize(os.path.join(at, file)) for at, _, files in os.walk(out) for file in files)
    return figures


def build_models(parquet, database):
    def work():
        import duckdb
        yield
        with duckdb.connect(database) as connection:
            connection.execute("CREATE SCHEMA silver; CREATE SCHEMA gold")
            connection.execute(f"CREATE VIEW bronze AS FROM read_parquet('{parquet}/**/*.parquet', hive_partitioning=true)")
            connection.execute(f"CREATE TABLE silver.events AS {models.SILVER_DUCKDB}")
            for name, sql in models.gold("duckdb").items():
                connection.execute(f"CREATE TABLE gold.{name} AS {sql}")

    return timed(work()) | check(database)


def check(database):
    import duckdb
    with duckdb.connect(database, read_only=True) as connection:
        return {"checks": {name: [int(n) for n in connection.execute(sql).fetchone()]
                           for name, sql in models.CHECKS.items()}}


def timed(work):
    """Runs a generator: up to its `yield` it prepares, after it it works."""
    next(work)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    for _ in work:
        pass
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": after.ru_maxrss * 1024}


def serve(file):
    """The ceiling: record batches that are ready in memory, nothing planned, nothing decoded."""
    import pyarrow
    import pyarrow.flight

    with pyarrow.OSFile(file) as source:
        table = pyarrow.ipc.open_file(source).read_all()

    class Server(pyarrow.flight.FlightServerBase):
        def do_get(self, context, ticket):
            return pyarrow.flight.RecordBatchStream(pyarrow.RecordBatchReader.from_batches(table.schema, table.to_batches()))

    server = Server("grpc://127.0.0.1:0")
    print(f"flight sql  grpc://127.0.0.1:{server.port}", file=sys.stderr, flush=True)
    server.serve()


def save(uri, sql, file):
    """Keeps lakebed's answer, so that the other server has the very same batches. Asked for twice, a table is in memory."""
    import pyarrow

    ask(connect(uri), sql)
    table = ask(connect(uri), sql)
    with pyarrow.OSFile(file, "wb") as out, pyarrow.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)


def read(rounds, lakebed, sql, other):
    """Reads the same table from both servers by turns, each to its end: DoGet, and for lakebed with the statement before it, too."""
    ours, theirs = connect(lakebed), connect(other)
    works = {"lakebed": (ours, sql, False), "lakebed, GetFlightInfo and DoGet": (ours, sql, True),
             "arrow c++ server": (theirs, None, False)}
    times, tables = {who: [] for who in works}, {}
    for _ in range(rounds):
        # In another order each time: what was read before leaves memory in another state.
        for who, (client, statement, asks_in_time) in random.sample(list(works.items()), len(works)):
            asked = time.monotonic()
            ticket = ticket_of(client, statement)
            start = asked if asks_in_time else time.monotonic()
            tables[who] = client.do_get(ticket).read_all()
            times[who].append(time.monotonic() - start)
    # The order of their rows is another one each time.
    expected = tables["arrow c++ server"]
    assert all((table.schema, table.num_rows) == (expected.schema, expected.num_rows) for table in tables.values())
    return {who: {"seconds": statistics.median(times[who]), "rows": table.num_rows, "bytes": table.nbytes}
            for who, table in tables.items()}


def connect(uri):
    import pyarrow.flight

    return pyarrow.flight.connect(uri)


def ask(client, sql):
    return client.do_get(ticket_of(client, sql)).read_all()


def ticket_of(client, sql):
    """What to read a statement's answer with, or the C++ server's one table."""
    import pyarrow.flight

    if sql is None:
        return pyarrow.flight.Ticket(b"table")
    descriptor = pyarrow.flight.FlightDescriptor.for_command(statement_query(sql))
    [endpoint] = client.get_flight_info(descriptor).endpoints
    return endpoint.ticket


def statement_query(sql):
    """Flight SQL's CommandStatementQuery { query = 1 } in a protobuf Any { type_url = 1, value = 2 }."""
    kind = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return field(1, kind) + field(2, field(1, sql.encode()))


def field(number, value):
    length, size = len(value), b""
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["ingest", "models", "check", "save", "serve", "read"])
    parser.add_argument("arguments", nargs="+")
    given = parser.parse_args()
    arguments = given.arguments
    if given.work in ("save", "serve"):
        return {"save": save, "serve": serve}[given.work](*arguments)
    if given.work == "read":
        figures = read(int(arguments[0]), *arguments[1:])
    else:
        figures = {"ingest": ingest, "models": build_models, "check": check}[given.work](*arguments)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
