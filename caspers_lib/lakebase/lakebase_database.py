"""A database of a Lakebase branch: how it is reached, and who may read in it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from caspers_lib.errors import PostgresError, WorkspaceError, first_cause
from caspers_lib.lakebase.access import Postgres
from caspers_lib.lakebase.connection import Database, connect, execute
from caspers_lib.lakebase.identifiers import quote_identifier
from caspers_lib.lakebase.lakebase_login import LakebaseLogin
from caspers_lib.workspace_calls import asked

if TYPE_CHECKING:
    import psycopg
    from databricks.sdk import WorkspaceClient

__all__ = ["endpoint_database", "lakebase_database", "let_read"]


def endpoint_database(
    login: LakebaseLogin, database: str, *, host: str | None = None, user: str | None = None
) -> Postgres:
    """How a database is reached, with passwords that rotate.

    Args:
        login: gives the passwords.
        database: the PostgreSQL database.
        host: the endpoint's host; libpq's own way, such as `PGHOST`, if None.
        user: the role; libpq's own way, such as `PGUSER`, if None.
    """
    from psycopg.conninfo import make_conninfo

    dsn = make_conninfo(host=host, dbname=database, user=user, sslmode="require")
    return Postgres(dsn, password=login)


def lakebase_database(client: "WorkspaceClient", branch: str, database: str) -> Postgres:
    """How the person who asks reaches a database, with passwords that rotate.

    Args:
        client: the workspace.
        branch: `projects/x/branches/y`.
        database: the PostgreSQL database.

    Raises:
        WorkspaceError: the branch or the person can't be read, or nothing can be written there.
    """
    from databricks.sdk.service.postgres import EndpointType

    user = asked("It can't be said who asks", lambda: client.current_user.me().user_name)
    endpoints = asked(
        f"The endpoints of {branch} can't be listed",
        lambda: list(client.postgres.list_endpoints(branch)),
    )
    for endpoint in endpoints:
        status = endpoint.status
        if (
            status
            and status.endpoint_type is EndpointType.ENDPOINT_TYPE_READ_WRITE
            and status.hosts
            and status.hosts.host
        ):
            login = LakebaseLogin(endpoint.name or "", profile=client.config.profile)
            return endpoint_database(login, database, host=status.hosts.host, user=user)
    raise WorkspaceError(
        f"{branch} has no endpoint that takes writes.",
        hint="See the branch's computes in the workspace.",
    )


def let_read(database: Database, role: str, schemas: Iterable[str]) -> tuple[str, ...]:
    """Let a role read all tables of some schemas, and nothing more; those that aren't there wait.

    So it may read what is made anew by who owns a table there now, as a sync that copies a table
    whole may do; but only where the person who asks may speak for that owner.

    Args:
        database: where.
        role: who.
        schemas: names of the schemas.

    Returns:
        The schemas in which a table that is made anew stays closed to the role.

    Raises:
        PostgresError: there is no such role, or the rights can't be given.
    """
    import psycopg

    owned = (
        "SELECT DISTINCT s.nspname, t.tableowner FROM pg_namespace s LEFT JOIN pg_tables t"
        " ON t.schemaname = s.nspname WHERE s.nspname = ANY(%s) ORDER BY 1, 2"
    )
    closed: list[str] = []
    with connect(database) as connection:
        for name, owner in execute(connection, owned, [list(schemas)]).fetchall():
            names = {"schema": quote_identifier(name), "role": quote_identifier(role)}
            try:
                execute(connection, "GRANT USAGE ON SCHEMA {schema} TO {role}", **names)
                execute(connection, "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
                        **names)  # fmt: skip
                if owner is not None and not _stays_open(connection, owner, names):
                    closed.append(name)
            except psycopg.Error as error:
                raise PostgresError(
                    f"{role} may not read the schema {name}: {first_cause(error)}",
                    hint="Whoever made the Lakebase project may give the right.",
                ) from error
    return tuple(dict.fromkeys(closed))


def _stays_open(connection: "psycopg.Connection", owner: str, names: dict[str, str]) -> bool:
    """Whether a role may read what an owner makes in a schema later, too."""
    import psycopg

    rights = (
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema}"
        " GRANT SELECT ON TABLES TO {role}"
    )
    try:
        with connection.transaction():
            execute(connection, rights, **names, owner=quote_identifier(owner))
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
