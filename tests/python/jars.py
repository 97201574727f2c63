"""Fetches the jars that foreign clients need, from Maven Central or from the repository that MAVEN_REPO names.

    jars.py DIRECTORY spark|jdbc

Jars that are there are kept; each has the SHA-256 that is written here. Spark's are 10 MB, the JDBC driver is 45 MB.
"""

import hashlib
import os
import pathlib
import sys
import tempfile
import time
import urllib.request

MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
TIMEOUT_SECONDS = 60

# Group, artifact, version, SHA-256. Delta Lake for the pyspark of spark-requirements.txt: reading by path needs these two; what
# else delta-spark names as its dependencies is for catalogs, or comes with Spark.
SPARK = [
    ("io.delta", "delta-spark_2.13", "4.4.0", "27d4fd8b1f879535c573ed1c718177d6a27f24d3e626ba02e216369725721ead"),
    ("io.delta", "delta-storage", "4.4.0", "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc"),
]
# The driver that DBeaver ships.
JDBC = [
    (
        "org.apache.arrow",
        "flight-sql-jdbc-driver",
        "18.3.0",
        "3f418b46c880e263558c5de669bdbede2c5d4375527ced116fb29f795b03704c",
    ),
]
OF = {"spark": SPARK, "jdbc": JDBC}


def file_name(jar):
    return f"{jar[1]}-{jar[2]}.jar"


def answered(address):
    """What is at an address; a repository that is away for a moment is asked again."""
    for pause in (5, 15, None):
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as answer:
                return answer.read()
        except OSError:
            if pause is None:
                raise
            time.sleep(pause)


def fetch(directory, jars):
    """Puts the jars into the directory, each under its name only once it is whole and its SHA-256 is right.

    Any number of processes may do this at once: they write the same bytes.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    repository = os.environ.get("MAVEN_REPO", MAVEN_CENTRAL).rstrip("/")
    for jar in jars:
        group, artifact, version, expected = jar
        path = directory / file_name(jar)
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == expected:
            continue
        address = f"{repository}/{group.replace('.', '/')}/{artifact}/{version}/{path.name}"
        content = answered(address)
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise ValueError(f"{address} has the SHA-256 {found}, expected {expected}")
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".unfinished-", delete=False) as unfinished:
            try:
                unfinished.write(content)
                unfinished.flush()
                os.fsync(unfinished.fileno())
                os.chmod(unfinished.name, 0o644)
                os.replace(unfinished.name, path)
            except BaseException:
                os.unlink(unfinished.name)
                raise


def main(directory, of):
    try:
        fetch(directory, OF[of])
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:500]
        print(f"the jars could not be fetched: {type(error).__name__}: {said}\n"
              f"hint: Python must reach {MAVEN_CENTRAL}; MAVEN_REPO names a mirror, and https_proxy and SSL_CERT_FILE "
              "are heeded")
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in OF:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
