"""A page about a lakebed project, at any version of its log: streamlit run app.py

It asks over Arrow Flight SQL alone, so it runs wherever the server can be reached. Settings come from the environment:
LAKEBED_FLIGHT, LAKEBED_USER, LAKEBED_PASSWORD (a password or a token) and LAKEBED_TLS_ROOT (a PEM file).
"""

import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pandas
import streamlit as st
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_manager import AdbcStatusCode

AS_OF = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "lakebed-as-of"
# The palette of the charts has ten colours, and a legend of two hundred countries is no legend.
COUNTRIES = 9
COHORTS = 14
NAMED_DAYS = timedelta(days=45)


@dataclass(frozen=True)
class Server:
    """Where to ask, and as whom. The password stays out of what is printed."""

    uri: str
    user: str
    password: str = field(repr=False)
    tls_root: str

    @classmethod
    def of_environment(cls) -> "Server":
        return cls(
            uri=os.environ.get("LAKEBED_FLIGHT") or "grpc://127.0.0.1:31337",
            user=os.environ.get("LAKEBED_USER", ""),
            password=os.environ.get("LAKEBED_PASSWORD", ""),
            tls_root=os.environ.get("LAKEBED_TLS_ROOT", ""),
        )


@st.cache_resource(scope="session", max_entries=8, on_release=lambda lake: lake.close(), show_spinner=False)
def connection(server: Server, pinned: int | None) -> flightsql.Connection:
    """A connection that asks a pinned version, or the newest where there is none.

    The newest is asked in a transaction, which reads one version until it ends: else the sections of one page could be
    of two versions, and what is cached for one be of the next. A pinned version needs none.
    """
    options = {}
    if server.user or server.password:
        options |= {"username": server.user, "password": server.password}
    if server.tls_root:
        options[DatabaseOptions.TLS_ROOT_CERTS.value] = pathlib.Path(server.tls_root).read_text()
    if pinned is not None:
        options[AS_OF] = str(pinned)
    return flightsql.connect(server.uri, db_kwargs=options, autocommit=pinned is not None)


def answer(lake: flightsql.Connection, sql: str) -> pandas.DataFrame:
    """By way of Arrow, which keeps decimals and dates what they are."""
    with lake.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table().to_pandas()


def opening(server: Server) -> tuple[pandas.DataFrame, str]:
    """Every version of the log up to the newest that is served, and the fingerprints of the models; begins the
    transaction that the page reads.

    A kept connection outlives neither a restart of the server nor its login, so a failure is tried once more on a new
    one before it counts.
    """
    for again in (False, True):
        try:
            lake = connection(server, None)
            lake.rollback()
            log = answer(lake, "SELECT version, time, events FROM lakebed.versions ORDER BY version")
            models = answer(lake, "SELECT fingerprint FROM lakebed.watermarks ORDER BY model")
            return log, " ".join(models.fingerprint)
        except adbc_driver_manager.Error:
            connection.clear()
            if again:
                raise


@dataclass(frozen=True)
class Version:
    """A version of the log, and how to ask it.

    An answer is kept for its number, its time, which tells it from the same number of another log, and the fingerprints
    of the models: an edited model changes its past too.
    """

    server: Server
    number: int
    time: datetime
    models: str
    newest: bool

    def ask(self, sql: str) -> pandas.DataFrame:
        return remembered(sql, self.server, self.number, self.time, self.models, _newest=self.newest)


@st.cache_data(max_entries=500, show_spinner="Asking the lake …")
def remembered(sql: str, server: Server, number: int, time: datetime, models: str, _newest: bool) -> pandas.DataFrame:
    """An answer, kept for good: what it is kept for never changes. All that may ask may read the same, so sessions
    share it, and it does not matter whether the version was the newest when it was asked."""
    return answer(connection(server, None if _newest else number), sql)


def choose(server: Server, log: pandas.DataFrame, models: str) -> Version:
    """The slider over the versions. Left at the newest it follows the log; moved away from it, it stays."""
    newest, state = int(log.version.iloc[-1]), st.session_state
    if state.get("version", newest) >= state.get("newest", newest):
        state.version = newest
    else:
        state.version = state.version  # The slider is a new one when its end moves: give it its place again.
    state.newest = newest
    number = newest
    if newest > 0:
        number = st.slider("Version of the log", 0, newest, key="version", help="Every number below is as of this version.")
    time = log.time[log.version == number].iloc[0].to_pydatetime()
    return Version(server, number, time, models, number == newest)


def in_words(span: timedelta) -> str:
    """The two largest units of a span: nobody reads the seconds of a day."""
    seconds = max(0, int(span.total_seconds()))
    units = [("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60)]
    while len(units) > 1 and units[0][1] == 0:
        units.pop(0)
    return " ".join(f"{count} {unit}" for unit, count in units[:2])


def freshness(version: Version, log: pandas.DataFrame, now: datetime) -> None:
    """What the page shows, and how old it is. From the log itself, so that it is there for any project."""
    number, time, behind, events = st.columns([2, 3, 2, 2])
    number.metric("Version", version.number, help="the newest" if version.newest else "an earlier one")
    time.metric("Its time (UTC)", f"{version.time:%Y-%m-%d %H:%M:%S}")
    behind.metric("Behind now", in_words(now - version.time))
    events.metric("Events", f"{log.events[log.version <= version.number].sum():,}")
    marks = version.ask("SELECT model, version, time, rows FROM lakebed.watermarks ORDER BY model")
    with st.expander(f"{len(marks)} models"):
        st.dataframe(marks, hide_index=True)


def largest(frame: pandas.DataFrame, measure: str) -> pandas.DataFrame:
    """The frame with all but the countries with most of the measure named 'other'."""
    kept = frame.groupby("country")[measure].sum().nlargest(COUNTRIES).index
    return frame.assign(country=frame.country.where(frame.country.isin(kept), "other"))


def per_day_and_country(frame: pandas.DataFrame, measure: str) -> None:
    """Bars of a measure that adds up over countries, which users of a day do not."""
    # Charts know no decimals; what is written as a number on the page is never rounded through a float.
    frame = largest(frame.assign(**{measure: frame[measure].astype(float), "day": pandas.to_datetime(frame.day)}), measure)
    bars = frame.pivot_table(index="day", columns="country", values=measure, aggfunc="sum")
    if not bars.empty and bars.index[-1] - bars.index[0] < NAMED_DAYS:
        # An axis of time has hours between few days, and bars as thin; named days have wide ones, and gaps are kept.
        bars = bars.asfreq("D")
        bars.index = bars.index.strftime("%Y-%m-%d")
    st.bar_chart(bars, x_label="", y_label=measure)


def activity(version: Version) -> None:
    """What adds up over days and countries; users do not, and are in the retention."""
    frame = version.ask("SELECT day, country, events, sessions, purchases FROM gold.daily_activity")
    events, sessions, purchases = st.columns(3)
    events.metric("Events, each once", f"{frame.events.sum():,}")
    sessions.metric("Sessions", f"{frame.sessions.sum():,}", help="a session counts once on each of its days")
    purchases.metric("Purchases", f"{frame.purchases.sum():,}")
    per_day_and_country(frame, "events")


def revenue(version: Version) -> None:
    """One currency at a time; the total is a sum of decimals, exact to the cent."""
    frame = version.ask("SELECT day, country, currency, purchases, revenue FROM gold.revenue WHERE revenue IS NOT NULL")
    if frame.empty:
        st.info("Nothing was bought up to this version: choose a later one.")
        return
    currencies = list(frame.groupby("currency").purchases.sum().sort_values(ascending=False).index)
    total, choice = st.columns([3, 1])
    currency = choice.selectbox("Currency", currencies, key="currency", help="Amounts of two currencies are never added up.")
    frame = frame[frame.currency == currency]
    total.metric("Revenue", f"{frame.revenue.sum():,} {currency}")
    per_day_and_country(frame, "revenue")


def funnel(version: Version) -> None:
    """Each stage asks for those before it, so every bar is within the one above it."""
    stages = ["sessions", "viewed", "added_to_cart", "purchased"]
    sums = ", ".join(f"CAST(coalesce(sum({stage}), 0) AS BIGINT) AS {stage}" for stage in stages)
    counts = version.ask(f"SELECT {sums} FROM gold.conversion_funnel").iloc[0]
    shown = pandas.DataFrame({"stage": [stage.replace("_", " ") for stage in stages], "sessions": counts.to_list()})
    chart, rates = st.columns([3, 1])
    with chart:
        st.bar_chart(shown, x="stage", y="sessions", horizontal=True, sort=False, x_label="", y_label="", height=260)
    for earlier, later in zip(stages, stages[1:]):
        rate = f"{counts[later] / counts[earlier]:.1%}" if counts[earlier] else "–"
        rates.metric(f"{later} of {earlier}".replace("_", " "), rate)


def retention(version: Version) -> None:
    """The last days and the first returns alone: a table of every day against every other is read by nobody."""
    frame = version.ask(
        "SELECT cohort_day, days_since, cohort_users, retention_rate FROM gold.cohort_retention WHERE cohort_day IN"
        f" (SELECT DISTINCT cohort_day FROM gold.cohort_retention ORDER BY cohort_day DESC LIMIT {COHORTS})"
        f" AND days_since < {COHORTS} ORDER BY cohort_day, days_since"
    )
    table = frame.pivot(index=["cohort_day", "cohort_users"], columns="days_since", values="retention_rate")
    table.columns = [f"day {days}" for days in table.columns]
    percent = st.column_config.NumberColumn(format="percent")
    st.caption(f"Of the users first seen on one day, how many came back; the last {COHORTS} such days.")
    st.dataframe(
        table.reset_index().rename(columns={"cohort_day": "first seen", "cohort_users": "users"}),
        hide_index=True,
        placeholder="",
        column_config={name: percent for name in table.columns},
    )


SECTIONS: list[tuple[str, str, Callable[[Version], None]]] = [
    ("Activity", "gold.daily_activity", activity),
    ("Revenue", "gold.revenue", revenue),
    ("Funnel", "gold.conversion_funnel", funnel),
    ("Retention", "gold.cohort_retention", retention),
]


def page(server: Server) -> None:
    log, models = opening(server)
    version = choose(server, log, models)
    st.header("Freshness")
    freshness(version, log, datetime.now(timezone.utc))
    if version.number == 0:
        st.info("The log is empty at version 0: `lakebed ingest` brings events, and the slider goes to later versions.")
        return
    there = set(version.ask("SELECT concat(table_schema, '.', table_name) AS model FROM information_schema.tables").model)
    missing = [model for _, model, _ in SECTIONS if model not in there]
    if missing:
        st.error(
            f"This project has no {', '.join(missing)} at version {version.number}: put the model under sql/gold"
            " (`lakebed init` writes those of this page) and run `lakebed run`."
        )
    for title, model, section in SECTIONS:
        if model in there:
            st.header(title)
            section(version)


def explained(server: Server, error: Exception) -> str:
    """What is wrong in one sentence, and what to do about it."""
    if isinstance(error, OSError):
        return f"LAKEBED_TLS_ROOT cannot be read ({error.strerror}): let it name a PEM file, or leave it out."
    match error.status_code:
        case AdbcStatusCode.UNAUTHENTICATED | AdbcStatusCode.UNAUTHORIZED:
            return (
                f"{server.uri} does not let this page in: set LAKEBED_USER and LAKEBED_PASSWORD to a user of the server"
                " (`lakebed user add`) and a password or token of theirs."
            )
        case AdbcStatusCode.IO | AdbcStatusCode.TIMEOUT:
            return (
                f"No lakebed server answers at {server.uri}: start one with `lakebed serve`, or set LAKEBED_FLIGHT to where"
                " it is (where it speaks TLS grpc+tls://…, and LAKEBED_TLS_ROOT to who signs its certificate)."
            )
        case AdbcStatusCode.INVALID_ARGUMENT if not urlsplit(server.uri).hostname:
            return f"{server.uri} is no address of a server: set LAKEBED_FLIGHT to one like grpc://127.0.0.1:31337."
        case AdbcStatusCode.INVALID_ARGUMENT | AdbcStatusCode.NOT_FOUND:
            return (
                f"A model is not as this page knows it ({str(error).splitlines()[0]}): give it the columns that"
                " `lakebed init` writes, or change the question in app.py."
            )
    return f"{server.uri} could not answer ({str(error).splitlines()[0]}): try again, or read what the server says."


def main() -> None:
    st.set_page_config(page_title="lakebed", layout="wide")
    st.title("lakebed")
    server = Server.of_environment()
    try:
        page(server)
    except (adbc_driver_manager.Error, OSError) as error:
        connection.clear()  # A login that ended, on a connection long unasked, must not outlast a reload.
        st.error(explained(server, error))


main()
