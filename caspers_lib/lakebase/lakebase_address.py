"""Where Lakebase databases are, and the file that tells it to an app.

The platform's `PG...` variables speak of an app's first database only, and `app.yaml` can't name
one that may not be there. So whoever deploys an app writes this file beside its code.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from caspers_lib.errors import PostgresError
from caspers_lib.lakebase.access import Postgres
from caspers_lib.lakebase.lakebase_login import LakebaseLogin

__all__ = ["ADDRESSES_FILE", "LakebaseAddress", "addresses_text", "read_addresses"]

ADDRESSES_FILE = "lakebase.json"
"""The file's name; it holds no secrets."""


@dataclass(frozen=True, slots=True)
class LakebaseAddress:
    """Where a database is.

    Args:
        endpoint: `projects/../branches/../endpoints/..`, which gives the passwords.
        host: the endpoint's host.
    """

    endpoint: str
    host: str

    def postgres(
        self, database: str, *, user: str | None = None, profile: str | None = None
    ) -> Postgres:
        """How it is reached, with passwords that rotate.

        Args:
            database: the PostgreSQL database.
            user: the role; libpq's own way, such as `PGUSER`, if None.
            profile: profile of the Databricks configuration; the SDK's own way if None.
        """
        from psycopg.conninfo import make_conninfo

        dsn = make_conninfo(host=self.host, dbname=database, user=user, sslmode="require")
        return Postgres(dsn, password=LakebaseLogin(self.endpoint, profile=profile))


def addresses_text(addresses: Mapping[str, LakebaseAddress]) -> str:
    """What the file says: the same addresses give the same text.

    Args:
        addresses: by the name of the PostgreSQL database.
    """
    said = {name: asdict(address) for name, address in addresses.items()}
    return json.dumps(said, indent=2, sort_keys=True) + "\n"


def read_addresses(folder: Path) -> dict[str, LakebaseAddress]:
    """The addresses by the name of the database; none where nobody wrote the file.

    Args:
        folder: of the app's code.

    Raises:
        PostgresError: the file is there and can't be read.
    """
    file = folder / ADDRESSES_FILE
    try:
        text = file.read_text(encoding="utf-8")
        return {
            str(name): LakebaseAddress(endpoint=str(said["endpoint"]), host=str(said["host"]))
            for name, said in json.loads(text).items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PostgresError(
            f"The addresses of the databases in {file.name} can't be read: {error!r}",
            hint="The task that deploys the app writes this file: run it again.",
        ) from error
