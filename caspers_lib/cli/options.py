"""Options that several commands share, and what they become."""

import os
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from caspers_lib.agents.model.settings import ModelSettings
    from caspers_lib.runtime.local_replay import ReplayOptions
    from caspers_lib.runtime.local_root import LocalRoot

__all__ = [
    "DEFAULT_ROOT",
    "AsJson",
    "ChaosText",
    "ComplaintRate",
    "CycleDays",
    "DatasetFile",
    "EventLayout",
    "MaxRate",
    "ModelApi",
    "ModelName",
    "ModelUrl",
    "Root",
    "Speed",
    "StartDay",
    "TargetOption",
    "absolute",
    "local_root",
    "model_settings",
    "replay_options",
]

DEFAULT_ROOT = Path(".caspers")

Root = Annotated[
    Path, typer.Option("--root", envvar="CASPERS_ROOT", help="Folder of all local state.")
]
DatasetFile = Annotated[
    Path | None,
    typer.Option(
        "--dataset",
        envvar="CASPERS_DATASET",
        help="Events file to replay; the generated one if not given.",
    ),
]
StartDay = Annotated[
    int | None, typer.Option("--start-day", help="Dataset day of the first run (default 70).")
]
Speed = Annotated[
    float | None,
    typer.Option("--speed", help="Virtual seconds a second, from now on (at first 60)."),
]
MaxRate = Annotated[
    float | None, typer.Option("--max-rate", help="At most so many events a second.")
]
ChaosText = Annotated[
    str | None,
    typer.Option("--chaos", help="Make it dirty on purpose: late=0.02,duplicate=0.01,seed=7"),
]
ComplaintRate = Annotated[
    float | None,
    typer.Option("--complaint-rate", help="Share of orders that complain (default 0.15)."),
]
EventLayout = Annotated[
    Literal["batched", "per_event"] | None,
    typer.Option("--layout", help="batched: JSON lines in few files (default); or per_event."),
]
TargetOption = Annotated[
    Literal["default", "complaints", "free", "all"],
    typer.Option("--target", envvar="CASPERS_TARGET", help="Which tasks."),
]
CycleDays = Annotated[
    int | None,
    typer.Option("--cycle-days", help="Length of a loop, where the dataset's metadata has none."),
]
ModelUrl = Annotated[
    str | None,
    typer.Option("--model-url", help="Where an OpenAI-compatible API lies: https://host/v1."),
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="The model's name there; the rules if not given.")
]
ModelApi = Annotated[
    Literal["chat", "responses"], typer.Option("--model-api", help="Which API it speaks.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def local_root(root: Path, *, checked: bool = True, **explicit: object) -> "LocalRoot":
    """ROOT with its settings, under its one name: links and `..` are resolved.

    Args:
        root: as given.
        checked: refuse what this version can't go on with, see `check_root`.
        explicit: settings by field name, None where not given.

    Raises:
        SettingsError: a value is not allowed.
        RootError: ROOT can't be used.
    """
    from caspers_lib.runtime.local_root import LocalRoot
    from caspers_lib.runtime.root_record import check_root
    from caspers_lib.runtime.settings import load_settings

    # `Path.resolve` raises on links that go in circles; the first write says so by name.
    local = LocalRoot(Path(os.path.realpath(root)), load_settings(explicit, runtime="local"))
    if checked:
        check_root(local)
    return local


def replay_options(
    speed: float | None,
    max_rate: float | None,
    chaos: str | None,
    cycle_days: int | None = None,
) -> "ReplayOptions":
    """How a replay is asked to write.

    Raises:
        SettingsError: a value is not allowed.
    """
    from caspers_lib.replay.chaos import Chaos
    from caspers_lib.replay.pace import Pace
    from caspers_lib.runtime.local_replay import ReplayOptions

    return ReplayOptions(
        speed=speed,
        pace=Pace(max_rate),
        chaos=None if chaos is None else Chaos.parse(chaos),
        cycle_days=cycle_days,
    )


def model_settings(
    url: str | None,
    model: str | None,
    api: Literal["chat", "responses"],
    usd_per_million_input: str = "0",
    usd_per_million_output: str = "0",
) -> "ModelSettings | None":
    """How a model is asked, its key from the environment alone; None where none is named.

    Args:
        url: where the API lies.
        model: the model's name there.
        api: which API it speaks.
        usd_per_million_input: price of a million input tokens.
        usd_per_million_output: price of a million output tokens.

    Raises:
        typer.BadParameter: the address or the name is missing, or a price is no number.
        SettingsError: a value is not allowed.
    """
    from pydantic import SecretStr

    from caspers_lib.agents.model.settings import MODEL_KEY, ModelSettings

    if (url is None) != (model is None):
        raise typer.BadParameter("--model-url and --model belong together")
    if url is None or model is None:
        return None
    try:
        usd_in, usd_out = Decimal(usd_per_million_input), Decimal(usd_per_million_output)
    except InvalidOperation as error:
        given = f"{usd_per_million_input!r} or {usd_per_million_output!r}"
        raise typer.BadParameter(f"{given} is no amount of USD, such as 2.50") from error
    key = os.environ.get(MODEL_KEY)
    return ModelSettings(
        base_url=url,
        model=model,
        api=api,
        api_key=SecretStr(key) if key else None,
        usd_per_million_input=usd_in,
        usd_per_million_output=usd_out,
    )


def absolute(path: Path | None) -> Path | None:
    """The path from the file system's root, None stays None."""
    return path.absolute() if path else None
