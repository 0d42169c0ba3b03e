"""How a Lakebase database is reached: its host, and a token of the workspace as its password."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from caspers_lib.errors import PostgresError, first_cause

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = ["LakebaseLogin"]

T = TypeVar("T")

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
        token = self._asked(
            lambda workspace: (
                workspace.postgres.generate_database_credential(endpoint=self.endpoint).token
            )
        )
        if not token:
            raise PostgresError(f"The workspace gave an empty credential for {self.endpoint!r}.")
        return token

    def host(self) -> str:
        """The endpoint's host.

        Raises:
            PostgresError: as for the token, or the endpoint has no host yet.
        """
        endpoint = self._asked(lambda workspace: workspace.postgres.get_endpoint(self.endpoint))
        hosts = endpoint.status and endpoint.status.hosts
        if not (hosts and hosts.host):
            raise PostgresError(
                f"The Lakebase endpoint {self.endpoint!r} has no host.",
                hint="See the branch's computes in the workspace.",
            )
        return hosts.host

    def _asked(self, ask: "Callable[[WorkspaceClient], T]") -> T:
        workspace = _workspace(self.profile, os.getpid())
        from databricks.sdk.errors.base import DatabricksError
        from databricks.sdk.errors.platform import NotFound, PermissionDenied, Unauthenticated

        try:
            return ask(workspace)
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
