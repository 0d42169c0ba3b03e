"""Spark SQL texts written in one place: names and texts in quotes, and event time in UTC.

No expression here depends on the session: not on its time zone, nor on ANSI mode, nor on what its
`spark.sql.timestampType` takes TIMESTAMP for.
"""

__all__ = [
    "FIRST_YEAR",
    "LAST_YEAR",
    "event_time",
    "minutes_between",
    "one_json_value",
    "quote_name",
    "quote_text",
    "utc_day",
    "utc_hour",
]

FIRST_YEAR, LAST_YEAR = 1900, 2261
"""Event times lie in these years. Parquet files of timestamps before 1900 are read by one calendar
or another, and nanoseconds in 64 bits, as pandas counts them, end in 2262."""

# Such texts sort as their times do: readers of bronze compare them, and Delta prunes files by them.
# No braces: PySpark's `sql` takes them for places to fill in.
_2 = "[0-9][0-9]"
_TIME_TEXT = f"^{_2}{_2}-{_2}-{_2} {_2}:{_2}:{_2}([.][0-9]{'[0-9]?' * 5})?$"


def quote_name(*parts: str) -> str:
    """An identifier such as `schema`.`table`, each part quoted.

    Args:
        parts: the name's parts, outermost first.
    """
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def quote_text(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def event_time(ts: str = "ts") -> str:
    """SQL of the TIMESTAMP that an event's text stands for, UTC.

    It is null where the text is no time of the years `FIRST_YEAR` to `LAST_YEAR`, written as
    yyyy-MM-dd HH:mm:ss with up to six decimals and without a zone.

    Args:
        ts: SQL of the text.
    """
    # In a regular expression $ stands before a last line feed as well.
    return (
        f"CASE WHEN regexp_like({ts}, '{_TIME_TEXT}') AND substr({ts}, -1) BETWEEN '0' AND '9'"
        f" AND {ts} >= '{FIRST_YEAR}' AND {ts} < '{LAST_YEAR + 1}'"
        f" THEN try_cast(concat({ts}, 'Z') AS TIMESTAMP_LTZ) END"
    )


def utc_day(time: str) -> str:
    """SQL of the UTC day, a DATE, of a timestamp.

    Args:
        time: SQL of the timestamp.
    """
    return f"date_from_unix_date(CAST(floor(unix_seconds({time}) / 86400) AS INT))"


def utc_hour(time: str) -> str:
    """SQL of the start of the UTC hour of a timestamp.

    Args:
        time: SQL of the timestamp.
    """
    seconds = f"unix_seconds({time})"
    return f"timestamp_seconds({seconds} - pmod({seconds}, 3600))"


def minutes_between(start: str, end: str) -> str:
    """SQL of the minutes between two timestamps, DECIMAL(12,2), rounded half up.

    Args:
        start: SQL of the earlier timestamp.
        end: SQL of the later one.
    """
    millis = f"CAST(unix_millis({end}) - unix_millis({start}) AS DECIMAL(15,0))"
    return f"CAST(round({millis} / 60000, 2) AS DECIMAL(12,2))"


def one_json_value(text: str) -> str:
    """SQL, true where a text is one JSON value and nothing follows it; else false or null.

    Spark's JSON functions read the first value of a text and leave out the rest. As an element of
    an array the value must be followed by what stands after it here. A text that closes the array
    itself has the same length with a further element and without.

    Args:
        text: SQL of the text.
    """
    alone, followed = f"concat('[', {text}, ']')", f"concat('[', {text}, ',0]')"
    return f"(json_array_length({alone}) = 1 AND json_array_length({followed}) = 2)"
