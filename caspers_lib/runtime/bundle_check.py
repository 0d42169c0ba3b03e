"""The bundle checked without a workspace: what only a deployment or a run would otherwise tell.

The official schema finds unknown fields; a dangling `depends_on`, a reference to nothing or two
targets with one name pass it. Contract: DESIGN section 9.
"""

import posixpath
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from caspers_lib.errors import SettingsError
from caspers_lib.runtime.bundle_file import (
    REFERENCE,
    Bundle,
    TargetConfig,
    Yaml,
    get_in,
    is_path,
    list_of,
    mapping_of,
    read_bundle,
    strings_of,
    texts_in,
)
from caspers_lib.runtime.task_graph import AFTER, TARGETS, checked_graph

__all__ = ["Problem", "check_bundle"]

_STEERING = {"COMMAND", "VALUE"}  # of the notebook that steers the replay
_UNFINISHED = re.compile(r"\$\{(?![A-Za-z][\w-]*(?:\.[\w-]+)*\})")
_BUNDLE = frozenset({"name", "target", "uuid", "git.branch", "git.commit", "git.origin_url"})
_WORKSPACE = re.compile(
    r"(root|file|artifact|resource|state)_path|host|current_user\.(user_name|short_name|id)"
)
_MADE_BY_DEPLOYMENT = {
    "apps": {"id", "url", "service_principal_id", "service_principal_client_id"},
    "volumes": {"id", "volume_path"},
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a deployment or a run would stumble over.

    Args:
        where: target and place, such as `all: jobs.initializer.tasks.Canonical_Data`.
        what: what is wrong there.
        hint: what to do about it.
    """

    where: str
    what: str
    hint: str


def check_bundle(
    folder: Path,
    *,
    settings_fields: Iterable[str],
    targets: Mapping[str, tuple[str, ...]] = TARGETS,
    order: Mapping[str, tuple[str, ...]] = AFTER,
    built: bool = False,
) -> tuple[Problem, ...]:
    """What would go wrong with the bundle, as far as its files tell.

    Args:
        folder: where databricks.yml lies.
        settings_fields: upper-case names that a job parameter may have.
        targets: the tasks of each target.
        order: the tasks that each task comes right after.
        built: whether the artifacts were built, so that their files must be there.

    Raises:
        SettingsError: a file is missing or isn't YAML, or a section has the wrong shape.
    """
    bundle = read_bundle(folder)
    fields = frozenset(settings_fields)
    found = [
        Problem(name, f"the {kind} has no such target", "targets are " + ", ".join(targets))
        for kind, there, here in (
            ("graph", targets, bundle.targets),
            ("bundle", bundle.targets, targets),
        )
        for name in here
        if name not in there
    ]
    for target in bundle.targets.values():
        found += _reference_problems(target)
        found += _file_problems(folder, target, built=built)
        for key, job in target.resources("jobs").items():
            where = f"{target.name}: jobs.{key}"
            found += _job_problems(where, target.resolved(job), fields)
            found += _entry_point_problems(where, folder, target, job)
        if target.name in targets:
            found += _graph_problems(target, targets[target.name], order)
    found += _shared_names(bundle)
    return tuple(dict.fromkeys(found))


def _reference_problems(target: TargetConfig) -> Iterator[Problem]:
    for name in sorted(target.variables.keys() - target.declared):
        where, what = f"{target.name}: variables.{name}", "the variable is not declared"
        yield Problem(where, what, "declare it under `variables` in databricks.yml")
    for name in sorted(target.declared - target.variables.keys()):
        where, what = f"{target.name}: variables.{name}", "the variable has no value"
        yield Problem(where, what, "give it a default or a value in each target")
    for place, text in [*texts_in(target.config), *texts_in(target.variables, "variables")]:
        where = f"{target.name}: {place.removeprefix('resources.')}"
        if _UNFINISHED.search(text):
            yield Problem(where, f"{text!r} has an unfinished reference", "write ${var.name}")
        for found in REFERENCE.finditer(text):
            if not _is_known(found[1], target):
                yield Problem(where, f"{found[0]} refers to nothing", "see what is declared")


def _is_known(name: str, target: TargetConfig) -> bool:
    head, _, rest = name.partition(".")
    if head == "var":
        return rest in target.declared
    if head == "bundle":
        return rest in _BUNDLE
    if head == "workspace":
        return _WORKSPACE.fullmatch(rest) is not None
    if head != "resources" or len(name.split(".")) < 4:
        return False
    _, kind, key, *field = name.split(".")
    resource = target.resources(kind).get(key)
    made = _MADE_BY_DEPLOYMENT.get(kind, {"id", "url"})
    return resource is not None and (get_in(resource, *field) is not None or field[0] in made)


def _job_problems(where: str, job: dict[str, Yaml], fields: frozenset[str]) -> Iterator[Problem]:
    tasks = [mapping_of(task) for task in list_of(job.get("tasks"))]
    keys = Counter(str(task.get("task_key")) for task in tasks)
    environments = {mapping_of(e).get("environment_key") for e in list_of(job.get("environments"))}
    for key, times in keys.items():
        if times > 1:
            yield Problem(where, f"the task key {key} is there {times} times", "rename one")
    for task in tasks:
        place = f"{where}.tasks.{task.get('task_key')}"
        for other in sorted(_after(task) - set(keys)):
            yield Problem(place, f"it depends on {other}, which is no task here", "name a task")
        if not any(k.endswith("_task") for k in task):
            yield Problem(place, "it has nothing to execute", "add a notebook_task or another")
        wanted = task.get("environment_key")
        if wanted is not None and wanted not in environments:
            yield Problem(place, f"the job has no environment {wanted}", "add it to `environments`")
    after = {str(t.get("task_key")): sorted(_after(t) & set(keys)) for t in tasks}
    try:
        checked_graph(after)
    except SettingsError as error:
        yield Problem(where, error.message, error.hint)
    for parameter in list_of(job.get("parameters")):
        name = str(mapping_of(parameter).get("name"))
        if name not in fields | _STEERING:
            yield Problem(where, f"the parameter {name} is no setting", "see docs/guide.md")
    yield from _schedule_problems(where, job)


def _schedule_problems(where: str, job: dict[str, Yaml]) -> Iterator[Problem]:
    interval = get_in(job, "trigger", "periodic", "interval")
    if interval is not None and not (str(interval).isdecimal() and int(interval) > 0):
        yield Problem(where, f"it runs every {interval}", "the interval is a whole number from 1")
    if job.get("trigger") or job.get("schedule") or job.get("continuous"):
        if job.get("max_concurrent_runs", 1) != 1:
            yield Problem(where, "its scheduled runs may overlap", "set max_concurrent_runs to 1")
        if get_in(job, "queue", "enabled") is not True:
            yield Problem(where, "a run that finds another is dropped", "enable its queue")


def _after(task: dict[str, Yaml]) -> set[str]:
    return {str(mapping_of(other).get("task_key")) for other in list_of(task.get("depends_on"))}


def _file_problems(folder: Path, target: TargetConfig, *, built: bool) -> Iterator[Problem]:
    wheels = [
        posixpath.join(str(artifact.get("path", ".")), "dist")
        for artifact in map(mapping_of, mapping_of(target.config.get("artifacts")).values())
        if artifact.get("type") == "whl"
    ]
    uploaded = strings_of(get_in(target.config, "sync", "paths")) or ["."]
    for place, text in texts_in(target.config.get("resources")):
        where, path = f"{target.name}: {place}", str(target.resolved(text))
        if not is_path(place, path):
            continue
        if path.endswith(".whl"):
            if posixpath.dirname(path) not in wheels:
                yield Problem(where, f"no artifact builds {path}", "see `artifacts`")
            elif built and not _files(folder, path):
                yield Problem(where, f"no file matches {path}", "build the wheel")
        elif not _files(folder, path):
            yield Problem(where, f"there is no {path}", "paths are relative to their own file")
        elif not any(_lies_in(path, there) for there in uploaded):
            yield Problem(where, f"{path} is not uploaded", "name its folder in sync.paths")


def _files(folder: Path, path: str) -> list[str]:
    return glob(path, root_dir=folder, recursive=True)  # noqa: PTH207 - Path.glob refuses `..`


def _lies_in(path: str, folder: str) -> bool:
    inside = posixpath.relpath(path, folder)
    return inside == "." or not inside.startswith("..")


def _entry_point_problems(
    where: str, folder: Path, target: TargetConfig, job: dict[str, Yaml]
) -> Iterator[Problem]:
    for task in map(mapping_of, list_of(job.get("tasks"))):
        entry = get_in(task, "python_wheel_task", "entry_point")
        if entry is not None and entry not in _entry_points(folder, target):
            place = f"{where}.tasks.{task.get('task_key')}"
            yield Problem(place, f"the wheel has no entry point {entry}", "see [project.scripts]")


def _entry_points(folder: Path, target: TargetConfig) -> set[str]:
    names: set[str] = set()
    for artifact in map(mapping_of, mapping_of(target.config.get("artifacts")).values()):
        file = folder / str(artifact.get("path", ".")) / "pyproject.toml"
        if file.is_file():
            project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
            names |= set(project.get("scripts", {}))
            names |= {n for group in project.get("entry-points", {}).values() for n in group}
    return names


def _graph_problems(
    target: TargetConfig, names: tuple[str, ...], order: Mapping[str, tuple[str, ...]]
) -> Iterator[Problem]:
    where = f"{target.name}: jobs.initializer"
    job = target.resources("jobs").get("initializer", {})
    tasks = {str(mapping_of(t).get("task_key")): mapping_of(t) for t in list_of(job.get("tasks"))}
    for name in names:
        if name not in tasks:
            yield Problem(where, f"the task {name} is missing", "the target's graph has it")
    for name, task in tasks.items():
        if name not in names:
            yield Problem(where, f"the task {name} is not the target's", "remove it")
            continue
        after = {other for other in order.get(name, ()) if other in names}
        if _after(task) != after:
            said = " and ".join(sorted(after)) or "nothing"
            yield Problem(f"{where}.tasks.{name}", f"it must come right after {said}", "depends_on")


_NAMED: dict[str, Callable[[dict[str, Yaml]], object]] = {
    "jobs": lambda job: job.get("name"),
    "pipelines": lambda pipeline: pipeline.get("name"),
    "apps": lambda app: app.get("name"),
    "schemas": lambda schema: f"{schema.get('catalog_name')}.{schema.get('name')}",
}


def _shared_names(bundle: Bundle) -> Iterator[Problem]:
    """Names that two targets both claim, so that one's deployment would take over the other's."""
    owners: dict[tuple[str, str], str] = {}
    for target in bundle.targets.values():
        claims = {
            ("root_path", str(target.resolved(get_in(target.config, "workspace", "root_path"))))
        }
        claims |= {
            (kind, str(name(target.resolved(resource))))
            for kind, name in _NAMED.items()
            for resource in target.resources(kind).values()
        }
        claims |= {
            (key, str(target.resolved(value)))
            for key, value in target.variables.items()
            if key.endswith("_endpoint_name")
        }
        for claim in sorted(claims - {("root_path", "None")}):
            owner = owners.setdefault(claim, target.name)
            if owner != target.name:
                what = f"{claim[0]} {claim[1]} is also the target {owner}'s"
                yield Problem(target.name, what, "name it with ${bundle.target}")
