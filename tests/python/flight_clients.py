"""Walks a lakebed Flight SQL server with the clients that people use: the ADBC driver and pyarrow.flight.

    python flight_clients.py HOST PORT VERSION

VERSION is an earlier version of the lake with fewer events than the newest. Needs adbc-driver-flightsql, adbc-driver-manager,
polars and pyarrow. Prints each thing that held; ends with 1 and the
reason at the first that did not. It asks the server which tables it has, so it runs against any lake.
"""

import datetime
import decimal
import sys
import warnings

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import polars
import pyarrow as pa
import pyarrow.flight as flight

CATALOG = "lakebed"
STATEMENTS = [
    "SELECT 1 AS a",
    "SELECT NULL AS a, 'x' AS b",
    "SELECT 1 AS a WHERE false",
    "SELECT CASE WHEN 1 > 2 THEN 1 ELSE 2.5 END AS c",
    "SELECT min(a), max(a), count(*) FROM (VALUES (1), (2), (NULL)) AS t(a)",
    "SELECT arrow_cast(1, 'UInt64') AS u, arrow_cast('a', 'Utf8View') AS v, [1, 2] AS l",
    "SELECT TIMESTAMP '2020-01-01 00:00:00' AS t, DATE '2020-01-01' AS d",
]
WRITES = [
    "CREATE TABLE x AS SELECT 1",
    "COPY (SELECT 1) TO '/nowhere/x.csv'",
    "SET datafusion.execution.batch_size = 1",
]


def check(condition, what):
    """Prints what held, or ends the walk with it."""
    if not condition:
        sys.exit(f"did not hold: {what}")
    print(f"ok  {what}")


def quoted(*names):
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def refused(call, error, what):
    """A call that must fail with this error; returns its message."""
    try:
        call()
    except error as reason:
        message = str(reason)
        check("Error(" not in message and "{" not in message.split("(")[0], f"{what}: {message.splitlines()[0]}")
        return message
    sys.exit(f"did not hold: {what} (it was answered)")


def catalog(connection):
    """The tables as ADBC lists them: {(schema, table): [column, …]}."""
    tables = {}
    for entry in connection.adbc_get_objects(depth="all").read_all().to_pylist():
        check(entry["catalog_name"] == CATALOG, f"the catalog is {entry['catalog_name']}")
        for schema in entry["catalog_db_schemas"]:
            for table in schema["db_schema_tables"]:
                name = (schema["db_schema_name"], table["table_name"])
                tables[name] = [column["column_name"] for column in table["table_columns"]]
    return tables


def adbc_lists(connection):
    tables = catalog(connection)
    check(tables, f"adbc_get_objects lists {len(tables)} tables: " + ", ".join(".".join(name) for name in tables))
    check(all(tables.values()), "each with its columns")
    for depth in ("catalogs", "db_schemas", "tables"):
        listed = connection.adbc_get_objects(depth=depth).read_all().to_pylist()
        check([entry["catalog_name"] for entry in listed] == [CATALOG], f"depth={depth}")
    schema, table = next(iter(tables))
    one = connection.adbc_get_objects(
        depth="all", catalog_filter=CATALOG, db_schema_filter=schema, table_name_filter=table
    )
    check(one.read_all().num_rows == 1, f"filters for {schema}.{table}")
    check(connection.adbc_get_table_types() == ["TABLE", "VIEW"], "table types")
    info = connection.adbc_get_info()
    check(info["vendor_name"] == "lakebed", f"server {info['vendor_name']} {info['vendor_version']}")
    check(connection.adbc_current_catalog == CATALOG, "current catalog")
    return tables


def adbc_reads_tables(connection, tables):
    with connection.cursor() as cursor:
        for (schema, table), columns in tables.items():
            described = connection.adbc_get_table_schema(table, catalog_filter=CATALOG, db_schema_filter=schema)
            check(described.names == columns, f"adbc_get_table_schema {schema}.{table}")
            cursor.execute(f"SELECT * FROM {quoted(schema, table)} LIMIT 1000")
            read = cursor.fetch_arrow_table()
            read.to_pylist()
            check(read.schema.equals(described), f"{read.num_rows} rows, the same columns and types")
            cursor.execute(f"SELECT * FROM {quoted(CATALOG, schema, table)} LIMIT 0")
            check(cursor.fetch_arrow_table().num_rows == 0, "no rows, with the catalog in front")
            if schema in ("silver", "gold"):
                asked_again(cursor, quoted(schema, table), quoted(columns[0]))


def asked_again(cursor, table, column):
    """First from files, then from memory, then by a plan that is kept: each time the same."""
    for sql in (f"SELECT count(*), min({column}), max({column}) FROM {table} WHERE {column} IS NOT NULL",
                f"SELECT {column} FROM {table} ORDER BY {column} DESC LIMIT 5", f"SELECT * FROM {table}"):
        answers = []
        for _ in range(5):
            cursor.execute(sql)
            answers.append(sorted(str(row) for row in cursor.fetchall()))
        check(all(answer == answers[0] for answer in answers), f"the same five times: {sql}")


def adbc_runs_statements(connection):
    with connection.cursor() as cursor:
        for sql in STATEMENTS:
            announced = cursor.adbc_execute_schema(sql)
            cursor.execute(sql)
            names = [column[0] for column in cursor.description]
            rows = cursor.fetchall()
            cursor.execute(sql)
            table = cursor.fetch_arrow_table()
            check(table.schema.equals(announced, check_metadata=True), f"one schema: {sql}")
            check(names == table.schema.names and len(rows) == table.num_rows, f"  {rows}")
        cursor.adbc_prepare("SELECT 42 AS answer")
        cursor.execute("SELECT 42 AS answer")
        check(cursor.fetchall() == [(42,)], "a prepared statement")
        cursor.execute("SELECT * FROM generate_series(1, 1000000) AS t(n)")
        check(sum(batch.num_rows for batch in cursor.fetch_record_batch()) == 1_000_000, "a million rows")


def adbc_is_refused(connection):
    errors = adbc_driver_manager.Error
    with connection.cursor() as cursor:
        message = refused(lambda: cursor.execute("SELEC 1"), errors, "a statement that does not parse")
        check("INVALID_ARGUMENT" in message or "InvalidArgument" in message, "  as an invalid argument")
        refused(lambda: cursor.execute("SELECT * FROM no_such_schema.no_such_table"), errors, "an unknown table")
        for sql in WRITES:
            refused(lambda sql=sql: cursor.execute(sql), errors, f"a statement that would write: {sql}")
        rows = pa.table({"a": [1]})
        refused(lambda: cursor.adbc_ingest("x", rows, mode="create"), errors, "an upload")
        cursor.execute("SELECT 1")
        check(cursor.fetchall() == [(1,)], "the connection lives on after all that")


def adbc_binds(connection):
    with connection.cursor() as cursor:
        names = ", ".join(f"CAST(? AS BIGINT) AS c{number}" for number in range(1, 13))
        cursor.execute(f"SELECT {names}", list(range(1, 13)))
        check(cursor.fetchone() == tuple(range(1, 13)), "twelve parameters in their order")
        moment = datetime.datetime(2026, 11, 23, 12, 34, 56, 789000, tzinfo=datetime.timezone.utc)
        typed = [7, 1.5, "it's ü", True, datetime.date(2026, 11, 23), decimal.Decimal("12.34"), None]
        kinds = ["BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN", "DATE", "DECIMAL(10, 2)", "VARCHAR"]
        names = ", ".join(f"CAST(? AS {kind}) AS c{place}" for place, kind in enumerate(kinds))
        cursor.execute(f"SELECT {names}", typed)
        check(list(cursor.fetchone()) == typed, "parameters of many types")
        cursor.execute("SELECT count(*) FROM bronze.events WHERE event_time > ?", [moment.replace(year=1970)])
        every = cursor.fetchone()[0]
        cursor.execute("SELECT count(*) FROM bronze.events WHERE event_time > ?", [moment.replace(year=2100)])
        check(every > 0 and cursor.fetchone()[0] == 0, "a time as a parameter of a filter")
        refused(lambda: cursor.execute("SELECT ? + 1, ?", [1]), adbc_driver_manager.Error, "one parameter of two")


def frames(connection):
    """What people in notebooks do: a data frame of a query."""
    frame = polars.read_database("SELECT day, sum(revenue) AS revenue FROM gold.revenue GROUP BY day ORDER BY day", connection)
    check(frame.height > 0 and frame.schema["day"] == polars.Date, f"a polars frame of {frame.height} days")


def one(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def adbc_travels(uri, version):
    """Versions by statement, by header, by session option and by transaction."""
    events = "SELECT count(*) FROM bronze.events"
    with flightsql.connect(uri, autocommit=True) as connection:
        now, then = one(connection, events), one(connection, f"{events} VERSION AS OF {version}")
        check(then < now, f"{then} events at version {version}, {now} now")
        time = one(connection, f"SELECT CAST(time AS VARCHAR) FROM lakebed.versions WHERE version = {version}")
        check(one(connection, f"{events} TIMESTAMP AS OF '{time}'") == then, f"and as of {time}")
        silver = one(connection, f"SELECT count(*) FROM silver.events VERSION AS OF {version}")
        check(silver < one(connection, "SELECT count(*) FROM silver.events"), "and in silver")
    header = {"adbc.flight.sql.rpc.call_header.lakebed-as-of": str(version)}
    with flightsql.connect(uri, db_kwargs=header, autocommit=True) as connection:
        check(one(connection, events) == then, "a header pins it")
    for cookies in ("true", "false"):
        kept = {"adbc.flight.sql.rpc.with_cookie_middleware": cookies}
        with flightsql.connect(uri, db_kwargs=kept, autocommit=True) as connection:
            connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.as_of": str(version)})
            check(one(connection, events) == then, f"a session option pins it, cookies={cookies}")
            connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.as_of": ""})
            check(one(connection, events) == now, "and lets go of it")
            connection.adbc_connection.set_options(**{"adbc.connection.db_schema": "silver"})
            check(one(connection, "SELECT count(*) FROM events") > silver, "a schema for names without one")
            check(connection.adbc_current_db_schema == "silver", "is told")
    with flightsql.connect(uri) as connection:
        check(one(connection, events) == now, "a transaction reads one version")
        connection.commit()
        check(one(connection, events) == now, "and the next one another")


def adbc(uri, version):
    warnings.simplefilter("error")
    for login in ({}, {"username": "anyone", "password": "a:b"}):
        # Without autocommit: there are transactions, or the driver would warn.
        with flightsql.connect(uri, db_kwargs=login) as connection:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                check(cursor.fetchone() == (1,), "adbc connects " + ("with a password" if login else "without a login"))
    with flightsql.connect(uri, autocommit=True) as connection:
        tables = adbc_lists(connection)
        adbc_reads_tables(connection, tables)
        adbc_runs_statements(connection)
        adbc_binds(connection)
        adbc_is_refused(connection)
        frames(connection)
    adbc_travels(uri, version)
    return tables


def varint(number):
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def field(tag, content):
    """A length-delimited protobuf field."""
    return bytes([tag << 3 | 2]) + varint(len(content)) + content


def command(name, content=b""):
    """A Flight SQL command in its Any; pyarrow has no Flight SQL client of its own."""
    return field(1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()) + field(2, content)


def raw_flight(uri, tables):
    client = flight.FlightClient(uri)
    token = client.authenticate_basic_token("anyone", "anything")
    check(token[1].startswith(b"Bearer "), "pyarrow.flight logs in")
    options = flight.FlightCallOptions(headers=[token])
    for sql in STATEMENTS:
        descriptor = flight.FlightDescriptor.for_command(command("CommandStatementQuery", field(1, sql.encode())))
        info = client.get_flight_info(descriptor, options)
        reader = client.do_get(info.endpoints[0].ticket, options)
        table = reader.read_all()
        check(info.schema.equals(table.schema, check_metadata=True), f"FlightInfo = DoGet: {sql}")
        check(client.get_schema(descriptor, options).schema.equals(info.schema, check_metadata=True), "  = GetSchema")
        check(info.app_metadata.isdigit(), f"  at version {info.app_metadata.decode()}")
        check(len(info.endpoints) == 1 and info.total_records == -1, "  one endpoint, rows not counted ahead")
    descriptor = flight.FlightDescriptor.for_command(command("CommandGetTables"))
    info = client.get_flight_info(descriptor, options)
    listed = client.do_get(info.endpoints[0].ticket, options).read_all()
    names = set(zip(listed["db_schema_name"].to_pylist(), listed["table_name"].to_pylist()))
    check(names == set(tables), "GetTables lists what ADBC lists")
    missing = flight.FlightDescriptor.for_command(command("CommandStatementQuery", field(1, b"SELEC")))
    refused(lambda: client.get_flight_info(missing, options), pa.ArrowInvalid, "a statement that does not parse")
    path = flight.FlightDescriptor.for_path("gold")
    refused(lambda: client.get_flight_info(path, options), pa.ArrowInvalid, "a path for a descriptor")
    actions = {action.type for action in client.list_actions(options)}
    check({"CreatePreparedStatement", "ClosePreparedStatement"} <= actions, "actions: " + ", ".join(sorted(actions)))
    client.close()


def main():
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    uri = f"grpc://{sys.argv[1]}:{sys.argv[2]}"
    tables = adbc(uri, int(sys.argv[3]))
    raw_flight(uri, tables)


main()
