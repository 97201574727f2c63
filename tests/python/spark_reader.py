"""Reads a log with Apache Spark and Delta Lake's own jars, and compares what they see with what was written.

    spark_reader.py LOG_DIR EXPECTED.json [JARS_DIR]

It reads the Delta table at LOG_DIR: the newest version, every older version by number (VERSION AS OF) and
by time (TIMESTAMP AS OF), and the history. Every difference is one line on stdout and makes the exit code 1. Writers
are tried too, on a copy: Spark must refuse them, and must say that our writer feature is why.

JARS_DIR is the directory into which jars.py put the jars; where the argument is left out, LAKEBED_SPARK_JARS names it. Spark itself is
pyspark from spark-requirements.txt and needs Java 17 or newer: JAVA_HOME, or java on the PATH. Spark downloads nothing.

EXPECTED.json is described in foreign_readers.py. Of "versions", these keys are read here as well, where they are there:
    sum            INTEGER: the sum of the same column as of that version
    event_time_us  {"min": INTEGER, "max": INTEGER}: as of that version
"""

import contextlib
import datetime
import json
import os
import pathlib
import shutil
import sys
import tempfile

import jars as maven

WRITER_FEATURE = "lakebedLog"
APPEND_ONLY = "DELTA_CANNOT_MODIFY_APPEND_ONLY"

# Settings of another Spark on this machine, which would change what ours does.
FOREIGN_SETTINGS = ["SPARK_HOME", "SPARK_CONF_DIR", "SPARK_REMOTE", "PYSPARK_SUBMIT_ARGS", "HADOOP_CONF_DIR",
                    "YARN_CONF_DIR"]

# Read the rows themselves: with this on, count, min and max are answered from the statistics in the log.
FROM_STATISTICS = "spark.databricks.delta.optimizeMetadataQuery.enabled"


def main(log, expected_path, jars):
    expected = json.loads(pathlib.Path(expected_path).read_text())
    jars = pathlib.Path(jars).resolve()
    missing = [name for name in map(maven.file_name, maven.SPARK) if not (jars / name).is_file()]
    if missing:
        print(f"spark: {jars} has no {', '.join(missing)}\nhint: jars.py {jars} spark")
        return 1
    log = pathlib.Path(log).resolve()
    differences = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        try:
            spark = start(scratch, jars)
        except ModuleNotFoundError as error:
            print(f"spark: it did not start: {error}\nhint: run this with a Python that has spark-requirements.txt")
            return 1
        except Exception as error:  # no Java, an old one, no memory: Java has said why
            said = "\n".join((scratch / "stderr").read_text(errors="replace").splitlines()[:20])
            print(f"spark: it did not start: {type(error).__name__}: {one_line(error)}\n{said}\n"
                  "hint: install Java 17 or newer, and set JAVA_HOME where java is not on the PATH "
                  "(Debian, Ubuntu: apt install openjdk-17-jre-headless)")
            return 1
        reader = f"spark {spark.version}, delta {maven.SPARK[0][2]}"
        try:
            differences += [f"{reader}: {line}" for line in compare(spark, scratch, log, expected)]
        finally:
            with quiet(scratch):
                spark.stop()
    for line in differences:
        print(line)
    if not differences:
        print(f"version {expected['version']} with {expected['rows']} rows is the same for {reader}, as are "
              f"{len(expected['versions'])} versions by number and by time; its writers are refused")
    return 1 if differences else 0


def compare(spark, scratch, log, expected):
    """Yields one line per difference. A failure is one too; what fails in the same way is one line, however often."""
    failed = {}
    steps = [
        ("reading the log", newest_version, (spark, log, expected)),
        ("counting by the statistics", rows_by_statistics, (spark, log, expected)),
        ("reading the history", history, (spark, log, expected)),
    ]
    for version in expected["versions"]:
        steps.append((f"reading version {version['version']}", at_version, (spark, log, expected, version)))
        if "time_ms" in version:
            steps.append((f"reading as of {iso(version['time_ms'])}, the time of version {version['version']}",
                          at_time, (spark, log, version)))
    steps.append(("trying to write", writers_that_were_let_in, (spark, scratch, log)))
    for what, step, arguments in steps:
        try:
            yield from (f"{what}: {line}" for line in step(*arguments))
        except Exception as error:  # any failure of a foreign engine is a finding
            failed.setdefault(one_line(error), []).append(what)
    for said, whats in failed.items():
        more = f" (and {len(whats) - 1} more, up to {whats[-1]})" if len(whats) > 1 else ""
        yield f"{whats[0]}{more} failed: {said}"


def newest_version(spark, log, expected):
    rows = spark.sql(f"SELECT * FROM {table(log)}")
    facts = facts_of(rows, expected["sum"]["column"], list(expected["filled"]))
    dates = rows.groupBy("event_date").count().selectExpr("CAST(event_date AS STRING)", "count").collect()
    facts["rows_by_date"] = {"null" if day is None else day: count for day, count in dates}
    yield from unequal(facts, expected, ("columns", "rows", "rows_by_date", "event_time_us"))
    if facts["sum"] != expected["sum"]["value"]:
        yield f"the sum of {expected['sum']['column']} is {facts['sum']}, expected {expected['sum']['value']}"
    for column, filled in expected["filled"].items():
        if facts["filled"][column] != filled:
            yield f"{column} has a value in {facts['filled'][column]} rows, expected {filled}"
    # Pruning by partition and by the statistics of a file: one day, and the first and the last event.
    day, count = next(iter(expected["rows_by_date"].items()), (None, 0))
    if day is not None:
        found = rows.where("event_date IS NULL" if day == "null" else f"event_date = DATE '{day}'").count()
        if found != count:
            yield f"the day {day} alone has {found} rows, expected {count}"
    for edge, micros in expected["event_time_us"].items():
        if micros is not None and not rows.where(f"event_time = timestamp_micros({int(micros)})").count():
            yield f"no row is found by the {edge} of event_time"


def rows_by_statistics(spark, log, expected):
    yield from unequal({"rows": counted(spark, table(log))}, expected, ("rows",))


def counted(spark, source):
    """Rows as people count them: Delta answers from the statistics in the log and opens no file."""
    spark.conf.set(FROM_STATISTICS, "true")
    try:
        return spark.sql(f"SELECT count(*) FROM {source}").first()[0]
    finally:
        spark.conf.set(FROM_STATISTICS, "false")


def history(spark, log, expected):
    """The versions and their in-commit timestamps."""
    rows = spark.sql(f"DESCRIBE HISTORY {table(log)}").selectExpr("version", "unix_millis(timestamp)").collect()
    times = dict(map(tuple, rows))
    if max(times) != expected["version"]:
        yield f"the newest version is {max(times)}, expected {expected['version']}"
    for version in expected["versions"]:
        found = times.get(version["version"])
        if "time_ms" in version and found != version["time_ms"]:
            yield f"version {version['version']} was committed at {found} ms, expected {version['time_ms']} ms"


def at_version(spark, log, expected, version):
    rows = spark.sql(f"SELECT * FROM {table(log)} VERSION AS OF {int(version['version'])}")
    facts = facts_of(rows, expected["sum"]["column"] if "sum" in version else None, [])
    yield from unequal(facts, version, ("columns", "rows", "sum", "event_time_us"))


def at_time(spark, log, version):
    rows = counted(spark, f"{table(log)} TIMESTAMP AS OF '{iso(version['time_ms'])}'")
    yield from unequal({"rows": rows}, version, ("rows",))


def facts_of(rows, summed, counted):
    """Columns, rows, the sum (None for None), first and last time in microseconds, and values per column to be counted."""
    count, first, last, total, *filled = rows.selectExpr(
        "count(*)", "unix_micros(min(event_time))", "unix_micros(max(event_time))",
        f"sum({identifier(summed)})" if summed else "NULL",
        *[f"count({identifier(name)})" for name in counted]).first()
    return {
        "columns": rows.columns,
        "rows": count,
        "sum": total,
        "event_time_us": {"min": first, "max": last},
        "filled": dict(zip(counted, filled)),
    }


def unequal(found, expected, keys):
    """One line per key that is expected and found to be something else."""
    for key in keys:
        if key in expected and found[key] != expected[key]:
            yield f"{key} is {found[key]!r}, expected {expected[key]!r}"


def writers_that_were_let_in(spark, scratch, log):
    """What Spark has to write to a table, tried on a copy; each must fail, name the reason, and leave no entry."""
    copy = pathlib.Path(shutil.copytree(log, scratch / "log"))
    target = table(copy)
    row = spark.sql(f"SELECT * FROM {target} LIMIT 1")
    attempts = [
        ("an append", WRITER_FEATURE, lambda: row.write.format("delta").mode("append").save(str(copy))),
        ("INSERT", WRITER_FEATURE, lambda: spark.sql(f"INSERT INTO {target} SELECT * FROM {target} LIMIT 1")),
        # With an order: without one, Delta lets an OPTIMIZE in that finds nothing to do.
        ("OPTIMIZE", WRITER_FEATURE, lambda: spark.sql(f"OPTIMIZE {target} ZORDER BY (event_time)")),
        ("VACUUM", WRITER_FEATURE, lambda: spark.sql(f"VACUUM {target} RETAIN 200 HOURS")),
        ("ADD COLUMN", WRITER_FEATURE, lambda: spark.sql(f"ALTER TABLE {target} ADD COLUMN another BIGINT")),
        ("SET TBLPROPERTIES", WRITER_FEATURE,
         lambda: spark.sql(f"ALTER TABLE {target} SET TBLPROPERTIES ('delta.appendOnly' = 'false')")),
        # Asked before the protocol is.
        ("DELETE", APPEND_ONLY, lambda: spark.sql(f"DELETE FROM {target} WHERE event_date < '2100-01-01'")),
    ]
    before = entries(copy)
    for what, reason, write in attempts:
        try:
            write()
            yield f"{what} was not refused"
        except Exception as error:
            if reason not in one_line(error):
                yield f"{what} was refused, but not because of {reason}: {one_line(error)}"
        if entries(copy) != before:
            yield f"{what} left {sorted(entries(copy) ^ before)} in the log"
            before = entries(copy)


def entries(log):
    return {path.name for path in (log / "_delta_log").glob("*") if not path.name.startswith(".")}


def start(scratch, jars):
    """A session on two threads of one Java process: 512 MB of heap, no port but its own on the loopback."""
    for name in FOREIGN_SETTINGS:
        os.environ.pop(name, None)
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession  # here: it takes the environment

    silence = scratch / "log4j2.properties"
    silence.write_text("rootLogger.level = off\n")
    settings = {
        "spark.driver.memory": "512m",
        "spark.driver.extraClassPath": os.pathsep.join(str(jars / maven.file_name(jar)) for jar in maven.SPARK),
        # The quick compiler and the simplest collector: for a minute's work they take less time and memory.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC "
                                         f"-Dlog4j2.configurationFile={silence} -Djava.io.tmpdir={scratch}",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        # The tables are small; the defaults are for clusters.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
        FROM_STATISTICS: "false",
    }
    builder = SparkSession.builder.master("local[2]").appName("lakebed")
    for key, value in settings.items():
        builder = builder.config(key, value)
    with quiet(scratch):
        return builder.getOrCreate()


@contextlib.contextmanager
def quiet(scratch):
    """Java's stderr, which a process started meanwhile keeps, goes to the file scratch/stderr."""
    kept = os.dup(2)
    with open(scratch / "stderr", "ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def table(log):
    return f"delta.{identifier(str(log))}"


def identifier(name):
    return "`" + name.replace("`", "``") + "`"


def iso(millis):
    """Milliseconds since 1970, UTC, as text for SQL; exact, unlike a float of seconds."""
    time = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=millis)
    return time.isoformat(" ", "milliseconds")


def one_line(error):
    """What was said, without what py4j puts before it and the stack trace that Java appends."""
    said = str(error).split("\n\tat ")[0].split("\n: ", 1)
    return " ".join(said[-1].split())[:500]


if __name__ == "__main__":
    directory = os.environ.get("LAKEBED_SPARK_JARS")
    match sys.argv[1:]:
        case [log, expected_path, directory]:
            sys.exit(main(log, expected_path, directory))
        case [log, expected_path] if directory:
            sys.exit(main(log, expected_path, directory))
    print("usage: spark_reader.py LOG_DIR EXPECTED.json [JARS_DIR]\n"
          "without JARS_DIR, the environment variable LAKEBED_SPARK_JARS names it", file=sys.stderr)
    sys.exit(2)
