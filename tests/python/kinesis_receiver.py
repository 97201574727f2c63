"""A Kinesis stream of three shards on moto's server, for one command that fills it; prints each record as a line.

Usage: kinesis_receiver.py STREAM COMMAND [ARGUMENT ...]

The command finds the server in AWS's environment variables. Its exit code is that of this script.
"""

import logging
import os
import subprocess
import sys

import boto3
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)


def main(stream: str, command: list[str]) -> int:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    os.environ.update(environment)
    kinesis = boto3.client("kinesis", region_name="us-east-1")
    kinesis.create_stream(StreamName=stream, ShardCount=3)
    code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        of_shard = {"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = kinesis.get_shard_iterator(**of_shard)["ShardIterator"]
        while records := (answer := kinesis.get_records(ShardIterator=iterator, Limit=1000))["Records"]:
            for record in records:
                sys.stdout.buffer.write(shard["ShardId"][-1].encode() + b" " + record["Data"] + b"\n")
            iterator = answer["NextShardIterator"]
    server.stop()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
