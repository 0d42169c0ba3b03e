"""What a connection of ours sets itself, so that neither the shell nor a role's defaults decide it.

A `PG...` variable never says where rows go or what they read as. It may say who logs in, and over
TCP how the connection is secured, where the connection string leaves that open.
"""

import os
from collections.abc import Mapping
from typing import Any

from psycopg.pq import Conninfo

from caspers_lib.lakebase.access import Database, Postgres, connection_parameters

__all__ = ["log_in_parameters", "session_settings"]

# libpq reads these whatever a connection string says, and a bad value fails the log-in.
_READ_IN_ANY_CASE = ("PGSERVICE", "PGDATESTYLE", "PGTZ", "PGGEQO")

_CREDENTIALS = frozenset({"user", "password", "passfile"})
# Sockets have neither TLS nor a foreign host to be held against.
_SECURITY_OVER_TCP = ("ssl", "gss", "krb", "require_auth", "channel_binding")

# Where libpq's own default is none, which it does not take as a value.
_DEFAULTS = {
    "connect_timeout": "10",
    "application_name": "caspers",
    "sslcertmode": "allow",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}
# Text is sent in this encoding, so a connection string may not choose another.
_ALWAYS = {"client_encoding": "UTF8"}

_RESULTS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # Under another role the triggers that guard the audit trail don't run.
    "session_replication_role": "origin",
}
_TIMEOUTS = (
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
)

# Only what differs is set: some settings need a right, and older servers don't have all. Built-in
# names come first in any search path, except in one that names their schema later.
_SETTINGS = """
SELECT set_config(name, value, false) FROM (VALUES {values}) AS setting (name, value)
WHERE current_setting(name, true) <> value
UNION ALL
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off'
UNION ALL
SELECT set_config('search_path', 'pg_catalog, ' || current_setting('search_path'), false)
WHERE current_setting('search_path') ~ 'pg_catalog'
"""


def log_in_parameters(database: Database) -> dict[str, Any]:
    """The parameters of one log-in, with a password that rotates as it is now.

    Every parameter that libpq would take from a variable is given, except credentials and, over
    TCP, what secures the connection. The variables that libpq reads whatever is given are removed
    from this process.

    Args:
        database: how to reach it.

    Raises:
        PostgresError: the connection string can't be read, or does not say which server.
    """
    access = database if isinstance(database, Postgres) else Postgres(database)
    given = connection_parameters(access.dsn)
    for variable in _READ_IN_ANY_CASE:
        os.environ.pop(variable, None)
    over_tcp = not str(given.get("host", "")).startswith(("/", "@"))
    parameters = {}
    for option in Conninfo.get_defaults():
        name = option.keyword.decode()
        is_open = name in _CREDENTIALS or (over_tcp and name.startswith(_SECURITY_OVER_TCP))
        if option.envvar and name != "service" and not is_open:
            parameters[name] = _DEFAULTS.get(name, (option.compiled or b"").decode())
    parameters |= given | _ALWAYS
    if access.password is not None:
        parameters["password"] = access.password()
    return parameters


def session_settings(parameters: Mapping[str, Any]) -> str:
    """The statement that gives a new session the settings that results and promises depend on.

    `synchronous_commit` is raised from `off` and otherwise left as the administrator has it.
    Timeouts are switched off unless the connection string's `options` name them.

    Args:
        parameters: what `log_in_parameters` gives.
    """
    options = str(parameters.get("options") or "")
    timeouts = {name: "0" for name in _TIMEOUTS if name not in options}
    values = ", ".join(f"('{name}', '{value}')" for name, value in (_RESULTS | timeouts).items())
    return _SETTINGS.format(values=values)
