"""A database of a Lakebase branch: how it is reached, and who may read in it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from caspers_lib.errors import PostgresError, WorkspaceError, first_cause
from caspers_lib.lakebase.access import Postgres
from caspers_lib.lakebase.connection import Database, connect, execute
from caspers_lib.lakebase.identifiers import quote_identifier
from caspers_lib.lakebase.lakebase_address import LakebaseAddress
from caspers_lib.workspace_calls import asked

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = ["database_resource", "lakebase_database", "let_read", "writable_address"]


def lakebase_database(client: "WorkspaceClient", branch: str, database: str) -> Postgres:
    """How the person who asks reaches a database, with passwords that rotate.

    Args:
        client: the workspace.
        branch: `projects/x/branches/y`.
        database: the PostgreSQL database.

    Raises:
        WorkspaceError: the branch or the person can't be read, or nothing can be written there.
    """
    address = writable_address(client, branch)
    user = asked("It can't be said who asks", lambda: client.current_user.me().user_name)
    return address.postgres(database, user=user, profile=client.config.profile)


def writable_address(client: "WorkspaceClient", branch: str) -> LakebaseAddress:
    """Where a branch takes writes.

    Args:
        client: the workspace.
        branch: `projects/x/branches/y`.

    Raises:
        WorkspaceError: the branch can't be read, or nothing can be written there.
    """
    from databricks.sdk.service.postgres import EndpointType

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
            return LakebaseAddress(endpoint=endpoint.name or "", host=status.hosts.host)
    raise WorkspaceError(
        f"{branch} has no endpoint that takes writes.",
        hint="See the branch's computes in the workspace.",
    )


def database_resource(
    client: "WorkspaceClient", branch: str, database: str, *, made_by: str
) -> str:
    """The resource name of a branch's database, `projects/x/branches/y/databases/z`.

    Args:
        client: the workspace.
        branch: `projects/x/branches/y`.
        database: the PostgreSQL database.
        made_by: the task that makes it.

    Raises:
        WorkspaceError: there is no such database, or the branch can't be read.
    """
    listed = asked(
        f"The databases of {branch} can't be listed",
        lambda: list(client.postgres.list_databases(branch)),
    )
    for each in listed:
        if each.name and each.status and each.status.postgres_database == database:
            return each.name
    raise WorkspaceError(
        f"{branch} has no database {database}.", hint=f"The task {made_by} makes it."
    )


def let_read(database: Database, role: str, schemas: Iterable[str]) -> tuple[str, ...]:
    """Let a role read all tables of some schemas, and nothing more; those that aren't there wait.

    Args:
        database: where.
        role: who.
        schemas: names of the schemas.

    Returns:
        The schemas that the role may read now.

    Raises:
        PostgresError: there is no such role, or the rights can't be given.
    """
    import psycopg

    there = "SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)"
    with connect(database) as connection:
        found = [name for (name,) in execute(connection, there, [list(schemas)])]
        for name in found:
            names = {"schema": quote_identifier(name), "role": quote_identifier(role)}
            try:
                execute(connection, "GRANT USAGE ON SCHEMA {schema} TO {role}", **names)
                execute(connection, "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
                        **names)  # fmt: skip
            except psycopg.Error as error:
                raise PostgresError(
                    f"{role} may not read the schema {name}: {first_cause(error)}",
                    hint="Whoever made the Lakebase project may give the right.",
                ) from error
    return tuple(found)
