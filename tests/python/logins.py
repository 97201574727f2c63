"""Logs in to a lakebed Flight SQL server over TLS with the clients that people use.

    python logins.py HOST PORT CERTIFICATE USER PASSWORD TOKEN [CLIENT_CERTIFICATE CLIENT_KEY]

CERTIFICATE signs the server's. Prints each thing that held; ends with 1 and the reason at the first that did not.
"""

import pathlib
import sys

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight


def check(condition, what):
    if not condition:
        sys.exit(f"did not hold: {what}")
    print(f"ok  {what}")


def refused(call, errors, words, what):
    try:
        call()
    except errors as error:
        check(words in str(error), f"{what}: {str(error).splitlines()[0][:200]}")
    else:
        sys.exit(f"did not hold: {what} (it was let in)")


def main(host, port, certificate, user, password, token, *client):
    uri = f"grpc+tls://{host}:{port}"
    certificate = pathlib.Path(certificate).read_text()
    client = [pathlib.Path(path).read_text() for path in client]
    tls = {"adbc.flight.sql.client_option.tls_root_certs": certificate}
    if client:
        tls["adbc.flight.sql.client_option.mtls_cert_chain"], tls["adbc.flight.sql.client_option.mtls_private_key"] = client

    def asked(**login):
        with flightsql.connect(uri, db_kwargs=tls | login, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 42")
            return cursor.fetchone() == (42,)

    check(asked(username=user, password=password), "a user and a password")
    check(asked(username=user, password=token), "a token in the place of the password")
    check(asked(**{"adbc.flight.sql.authorization_header": f"Bearer {token}"}), "a token as a bearer")
    errors = adbc_driver_manager.Error
    refused(lambda: asked(username=user, password="wrong"), errors, "the user or the password is wrong", "a wrong password")
    refused(lambda: asked(username="nobody", password=password), errors, "the user or the password is wrong", "a wrong user")
    refused(asked, errors, "who asks", "nobody")

    options = {"tls_root_certs": certificate.encode()}
    if client:
        options |= {"cert_chain": client[0].encode(), "private_key": client[1].encode()}
    raw = flight.FlightClient(uri, **options)
    bearer = raw.authenticate_basic_token(user, password)
    check(bearer[1].startswith(b"Bearer "), "pyarrow's authenticate_basic_token")
    actions = list(raw.list_actions(flight.FlightCallOptions(headers=[bearer])))
    check(actions, "and its bearer is good")
    refused(lambda: list(raw.list_actions()), flight.FlightUnauthenticatedError, "who asks", "without it")
    if client:
        naked = flight.FlightClient(uri, tls_root_certs=certificate.encode())
        refused(lambda: list(naked.list_actions()), (flight.FlightError, pa.ArrowException), "", "without a certificate of a client")


if __name__ == "__main__":
    if len(sys.argv) not in (7, 9):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
