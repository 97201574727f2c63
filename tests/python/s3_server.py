"""An S3 server on loopback, in memory: moto's. Prints its port; ends when its standard input does.

Usage: s3_server.py BUCKET
"""

import sys
import urllib.request

from moto.server import ThreadedMotoServer


def main() -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = urllib.request.Request(f"http://{host}:{port}/{sys.argv[1]}", method="PUT")
    urllib.request.urlopen(bucket).close()
    print(port, flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
