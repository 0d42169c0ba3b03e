"""The password of a Lakebase database: a token of the workspace, good for an hour."""

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caspers_lib.errors import PostgresError, first_cause

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = ["LakebaseLogin"]

# The SDK's own patience is five minutes; a connection is asked for by someone who waits.
_RETRY_SECONDS = 15
_HTTP_SECONDS = 15
_INSTALL_HINT = "Install it with: pip install 'caspers_lib[databricks]'"


@dataclass(frozen=True, slots=True)
class LakebaseLogin:
    """Gives a fresh token each time it is called: the `password` of a `Postgres`.

    It can be sent to another process, which then logs in to the workspace by itself.

    Args:
        endpoint: the database's endpoint, `projects/../branches/../endpoints/..`.
        profile: profile of the Databricks configuration; the SDK's own way if None.
    """

    endpoint: str
    profile: str | None = None

    def __call__(self) -> str:
        """Ask the workspace for a token.

        Returns:
            The token; it is checked at log-in only.

        Raises:
            PostgresError: there is no SDK, no access to the workspace, or no such endpoint.
        """
        workspace = _workspace(self.profile, os.getpid())
        from databricks.sdk.errors.base import DatabricksError
        from databricks.sdk.errors.platform import NotFound, PermissionDenied, Unauthenticated

        try:
            token = workspace.postgres.generate_database_credential(endpoint=self.endpoint).token
        except NotFound as error:
            raise PostgresError(
                f"The workspace has no Lakebase endpoint {self.endpoint!r}.",
                hint="It reads projects/../branches/../endpoints/..; does the project exist?",
            ) from error
        except (Unauthenticated, PermissionDenied) as error:
            raise PostgresError(
                f"The workspace gives no credential for {self.endpoint!r}: {first_cause(error)}",
                hint="Log in anew (databricks auth login), or ask for the right to use it.",
            ) from error
        except (DatabricksError, OSError, TimeoutError, ValueError) as error:
            raise PostgresError(
                f"No credential for {self.endpoint!r} from the workspace: {first_cause(error)}",
                hint="Is the workspace's address right, and can it be reached?",
            ) from error
        if not token:
            raise PostgresError(f"The workspace gave an empty credential for {self.endpoint!r}.")
        return token


# A process that was forked must not share its parent's open connections, hence the number.
@functools.lru_cache(maxsize=8)
def _workspace(profile: str | None, _process: int) -> "WorkspaceClient":
    try:
        from databricks.sdk import WorkspaceClient
        from databricks.sdk.core import Config
    except ImportError as error:
        raise PostgresError("The Databricks SDK is not installed.", hint=_INSTALL_HINT) from error
    if not hasattr(WorkspaceClient, "postgres"):
        raise PostgresError(
            "The Databricks SDK that is installed is too old for Lakebase.", hint=_INSTALL_HINT
        )
    try:
        config = Config(
            profile=profile,
            retry_timeout_seconds=_RETRY_SECONDS,
            http_timeout_seconds=_HTTP_SECONDS,
        )
        return WorkspaceClient(config=config)
    except ValueError as error:
        raise PostgresError(
            f"No access to a Databricks workspace: {first_cause(error)}",
            hint="Set DATABRICKS_HOST and DATABRICKS_TOKEN, or name a profile of ~/.databrickscfg.",
        ) from error
