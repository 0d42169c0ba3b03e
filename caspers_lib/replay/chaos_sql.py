"""The decisions of `Chaos` as DuckDB SQL, over rows that have an `event_id`.

The draws are hexadecimal digits of SHA-1("<seed>|<event_id>"): the first 13 choose the kind, the
next 13, as a number, are the amount. Everything else follows from kind and amount:

delay of late           60 + amount mod (60 * late_minutes - 59) seconds
delay of out_of_order   1 + amount mod out_of_order_seconds
second delivery         1 + amount mod (60 * duplicate_minutes) seconds after the first
clock skew              the (amount mod 2S)-th of -S, ..., -1, 1, ..., S seconds
corrupt_json            a text of n characters keeps 1 + (n - 1) * (amount mod 1000) // 1000
new_field, wrong_type   in the envelope of a line where amount is even, else in the body
"""

import math

from caspers_lib.replay.chaos import Chaos
from caspers_lib.replay.form import Form
from caspers_lib.replay.window import Window

__all__ = [
    "delays_sql",
    "delivered_sql",
    "detail_sql",
    "drawn_sql",
    "name_sql",
    "touched_end_sql",
    "touched_line_sql",
    "touched_sequence_sql",
    "touched_sql",
]

_DRAWS = 16**13
_IN_ENVELOPE = "(amount % 2 = 0)"
_UNKNOWN = "unknown_"
_NEW_FIELD = '"new_field":"added"'


def drawn_sql(identified: str, chaos: Chaos) -> str:
    """`identified` with `kind` (null where nothing happens) and `amount`."""
    dealt, cases = 0.0, []
    for kind, rate in chaos.rates.items():
        if rate:
            dealt += rate
            cases.append(f"WHEN lot < {round(dealt * _DRAWS)} THEN '{kind}'")
    drawn = f"SELECT *, sha1('{chaos.seed}|' || event_id) AS draw FROM ({identified})"  # noqa: S608
    lots = (
        "SELECT * EXCLUDE (draw), ('0x' || draw[1:13])::BIGINT AS lot, "  # noqa: S608
        f"('0x' || draw[14:26])::BIGINT AS amount FROM ({drawn})"
    )
    return f"SELECT * EXCLUDE (lot), CASE {' '.join(cases)} END AS kind FROM ({lots})"  # noqa: S608


def delays_sql(chaos: Chaos) -> str:
    """An event's deliveries: seconds after its virtual time, a list, empty where it is dropped."""
    late = f"60 + amount % {60 * chaos.late_minutes - 59}"
    return (
        f"CASE kind WHEN 'late' THEN [{late}] "
        f"WHEN 'out_of_order' THEN [1 + amount % {chaos.out_of_order_seconds}] "
        f"WHEN 'duplicate' THEN [0, 1 + amount % {60 * chaos.duplicate_minutes}] "
        "WHEN 'dropped' THEN [] ELSE [0] END"
    )


def delivered_sql(drawn: str, chaos: Chaos, window: Window, key: str) -> str:
    """The deliveries of `drawn` within `window`, in the order of delivery.

    `delay` is added (seconds), and `virtual_ts` becomes what the event's own clock showed.

    Args:
        drawn: rows with `kind` and `amount`.
        chaos: the bounds.
        window: virtual seconds.
        key: the column that, with `sequence`, orders what arrives at the same time.
    """
    arrival = "virtual_ts + delay"
    # Everything sits on whole seconds, as in `loop_slices`.
    until = f"{arrival} <= {math.floor(window.until)}"
    after = "true" if window.after is None else f"{arrival} > {math.floor(window.after)}"
    rows = f"SELECT *, unnest({delays_sql(chaos)}) AS delay FROM ({drawn})"  # noqa: S608
    ordered = (
        f"SELECT * FROM ({rows}) WHERE {after} AND {until} "  # noqa: S608
        f"ORDER BY {arrival}, virtual_ts, {key}, sequence"
    )
    skewed = f"CASE WHEN kind = 'clock_skew' THEN {_skew_sql(chaos)} ELSE 0 END"
    return f"SELECT * REPLACE (virtual_ts + {skewed} AS virtual_ts) FROM ({ordered})"  # noqa: S608


def touched_sql(events: str, form: Form) -> str:
    """`events` (the plain columns, `kind` and `amount`) with what happens to type and body."""
    inside = f"NOT {_in_envelope_sql(form)}"
    comma = "CASE WHEN body = '{}' THEN '' ELSE ',' END"
    cut = f"WHEN kind = 'corrupt_json' THEN {_cut_sql('body')} " if form == "columns" else ""
    return (
        "SELECT * REPLACE ("  # noqa: S608
        f"CASE WHEN kind = 'unknown_event_type' THEN '{_UNKNOWN}' || event_type "
        "ELSE event_type END AS event_type, "
        f"CASE {cut}WHEN kind = 'wrong_type' AND {inside} THEN to_json(body)::VARCHAR "
        f"WHEN kind = 'new_field' AND {inside} "
        f"THEN left(body, length(body) - 1) || {comma} || '{_NEW_FIELD}}}' "
        f"ELSE body END AS body) FROM ({events})"
    )


def touched_sequence_sql() -> str:
    """The JSON text of `sequence` in a line."""
    return (
        f"CASE WHEN kind = 'wrong_type' AND {_IN_ENVELOPE} "
        """THEN '"' || sequence || '"' ELSE sequence::VARCHAR END"""
    )


def touched_end_sql() -> str:
    """What closes the object of a line."""
    return f"CASE WHEN kind = 'new_field' AND {_IN_ENVELOPE} THEN ',{_NEW_FIELD}}}' ELSE '}}' END"


def name_sql(chaos: Chaos) -> str:
    """An event's file stem; its second delivery has one of its own."""
    if not chaos.is_on:
        return "event_id"
    return "event_id || CASE WHEN kind = 'duplicate' AND delay > 0 THEN '-1' ELSE '' END"


def touched_line_sql(line: str) -> str:
    """The text of a line, without its newline."""
    return f"CASE WHEN kind = 'corrupt_json' THEN {_cut_sql(line)} ELSE {line} END"


def detail_sql(chaos: Chaos, form: Form) -> str:
    """What exactly happened, as a JSON object, see `manifest_batches`."""
    place = "line" if form != "columns" else "body"
    outside = _in_envelope_sql(form)
    delay = f"""'{{"delay_seconds":' || {delays_sql(chaos)}[-1] || '}}'"""
    return (
        f"CASE kind WHEN 'late' THEN {delay} "
        f"WHEN 'out_of_order' THEN {delay} "
        f"WHEN 'duplicate' THEN {delay} "
        f"""WHEN 'corrupt_json' THEN '{{"text":"{place}","kept_permille":' """
        "|| amount % 1000 || '}' "
        "WHEN 'unknown_event_type' THEN "
        f"""'{{"event_type":' || to_json('{_UNKNOWN}' || event_type) || '}}' """
        """WHEN 'new_field' THEN '{"field":"new_field","in":"' """
        f"""|| CASE WHEN {outside} THEN 'envelope' ELSE 'body' END || '"}}' """
        """WHEN 'wrong_type' THEN '{"field":"' """
        f"""|| CASE WHEN {outside} THEN 'sequence' ELSE 'body' END || '","type":"string"}}' """
        """WHEN 'clock_skew' THEN '{"skew_seconds":' """
        f"|| {_skew_sql(chaos)} || '}}' ELSE '{{}}' END"
    )


def _skew_sql(chaos: Chaos) -> str:
    bound = chaos.clock_skew_seconds
    turn = f"(amount % {2 * bound})"
    return f"({turn} - {bound} + CASE WHEN {turn} >= {bound} THEN 1 ELSE 0 END)"


def _in_envelope_sql(form: Form) -> str:
    """Where a kind that has two places happens; the columns' types leave it only the body."""
    return "false" if form == "columns" else _IN_ENVELOPE


def _cut_sql(text: str) -> str:
    return f"left({text}, 1 + (length({text}) - 1) * (amount % 1000) // 1000)"
