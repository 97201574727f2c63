"""Plays Lambda's event source mappings: a queue and a stream on moto's server, polled into a function.

Usage: event_source_mapping.py FUNCTION_URL

FUNCTION_URL is where the function is invoked (POST). Each message and record is one event, or what is no event at all. What the
function says it could not take is delivered again; some of what it took is delivered again as well, grouped in another
way, as both services may do. A call that is not answered counts as failed. Prints what was sent, as JSON.
"""

import base64
import json
import logging
import random
import signal
import sys
import time
import urllib.error
import urllib.request

import boto3
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)

POISON = 3


def event(name: str) -> str:
    return json.dumps({"event_id": name, "event_type": "view", "event_time": "2026-11-01T00:00:00Z"})


class Function:
    def __init__(self, url: str) -> None:
        self.url = url
        self.unanswered = 0

    def invoke(self, payload: dict) -> list[str] | None:
        """The identifiers of what failed; None for a call that failed as a whole."""
        body = json.dumps(payload).encode()
        request = urllib.request.Request(self.url, data=body, method="POST")
        try:
            # A machine that has other work takes longer: whoever was not answered waits longer the next time.
            with urllib.request.urlopen(request, timeout=3 + self.unanswered / 2) as answer:
                said = json.load(answer)
        except (urllib.error.URLError, TimeoutError, ConnectionError, json.JSONDecodeError):
            self.unanswered += 1
            return None
        return [failure["itemIdentifier"] for failure in said["batchItemFailures"]]


def queue_event(arn: str, messages: list[dict]) -> dict:
    records = []
    for message in messages:
        records.append({
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": arn,
            "awsRegion": "us-east-1",
        })
    return {"Records": records}


def play_queue(sqs, function: Function, name: str, attributes: dict, dice: random.Random) -> dict:
    url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "1", **attributes})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    fifo = name.endswith(".fifo")
    sent = []
    for number in range(60):
        body = "poison" if number % 20 == 7 else event(f"{name}-{number}")
        more = {"MessageGroupId": f"g{number % 3}", "MessageDeduplicationId": str(number)} if fifo else {}
        sqs.send_message(QueueUrl=url, MessageBody=body, **more)
        if body != "poison":
            sent.append(f"{name}-{number}")
    seen: list[dict] = []
    left = {group: [number for number in range(60) if number % 3 == group] for group in range(3)} if fifo else {}
    idle = 0
    while idle < 3 or len({message["MessageId"] for message in seen}) < 60:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, AttributeNames=["All"])
        messages = answer.get("Messages", [])
        idle = 0 if messages else idle + 1
        if fifo:
            taken = in_their_turn(messages, left)
            for message in messages:
                # Back into the queue at once: while one is out, moto gives none of its group that came before it.
                if message not in taken:
                    handle = message["ReceiptHandle"]
                    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
            messages = taken
        if not messages:
            continue
        # A queue delivers at least once: some of what came before comes again, among others.
        again = dice.sample(seen, min(len(seen), dice.randrange(4)))
        failed = function.invoke(queue_event(arn, messages + again))
        if failed is None:
            continue
        for message in messages:
            if message["MessageId"] not in failed:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                seen.append(message)
                if fifo and number_of(message) in left[number_of(message) % 3]:
                    left[number_of(message) % 3].remove(number_of(message))
    return {"sent": sent, "poison": POISON}


def number_of(message: dict) -> int:
    return int(message["Attributes"]["MessageDeduplicationId"])


def in_their_turn(messages: list[dict], left: dict[int, list[int]]) -> list[dict]:
    """The messages whose group has none before them that was not taken. SQS holds a group back while one of its messages is
    out; moto may let a later one through when the time of an earlier one runs out. One that was deleted too late comes again."""
    turns = {group: iter(numbers) for group, numbers in left.items()}
    due = {group: next(turn, None) for group, turn in turns.items()}
    fit = []
    for message in sorted(messages, key=number_of):
        group = number_of(message) % 3
        if number_of(message) not in left[group]:
            fit.append(message)
        elif due[group] == number_of(message):
            fit.append(message)
            due[group] = next(turns[group], None)
    return fit


def play_stream(kinesis, function: Function, dice: random.Random) -> dict:
    kinesis.create_stream(StreamName="clicks", ShardCount=2)
    arn = kinesis.describe_stream(StreamName="clicks")["StreamDescription"]["StreamARN"]
    sent = []
    for number in range(90):
        data = "poison" if number % 30 == 11 else event(f"stream-{number}")
        kinesis.put_record(StreamName="clicks", Data=data.encode(), PartitionKey=str(number % 10))
        if data != "poison":
            sent.append(f"stream-{number}")
    for shard in kinesis.list_shards(StreamName="clicks")["Shards"]:
        shard_id = shard["ShardId"]
        start = kinesis.get_shard_iterator(StreamName="clicks", ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")
        records = kinesis.get_records(ShardIterator=start["ShardIterator"], Limit=1000)["Records"]
        at = 0
        while at < len(records):
            # A stretch that was delivered may be delivered again, cut in another way.
            begin = max(0, at - dice.randrange(4))
            end = min(len(records), at + 1 + dice.randrange(12))
            failed = function.invoke(stream_event(arn, shard_id, records[begin:end]))
            if failed is None:
                continue
            numbers = [record["SequenceNumber"] for record in records]
            at = numbers.index(failed[0]) if failed else end
    return {"sent": sent, "poison": POISON}


def stream_event(arn: str, shard_id: str, records: list[dict]) -> dict:
    return {"Records": [{
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record["PartitionKey"],
            "sequenceNumber": record["SequenceNumber"],
            "data": base64.b64encode(record["Data"]).decode(),
            "approximateArrivalTimestamp": round(time.time(), 3),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard_id}:{record['SequenceNumber']}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda",
        "awsRegion": "us-east-1",
        "eventSourceARN": arn,
    } for record in records]}


def main() -> None:
    # What has not come to an end by then never does.
    signal.alarm(1200)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    client = lambda name: session.client(name, endpoint_url=f"http://{host}:{port}")  # noqa: E731
    function, dice = Function(sys.argv[1]), random.Random(7)
    sources = {
        "standard": play_queue(client("sqs"), function, "standard", {}, dice),
        "fifo": play_queue(client("sqs"), function, "ordered.fifo", {"FifoQueue": "true"}, dice),
        "stream": play_stream(client("kinesis"), function, dice),
    }
    server.stop()
    print(json.dumps({"sources": sources, "unanswered": function.unanswered}))


if __name__ == "__main__":
    main()
