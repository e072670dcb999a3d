"""Which folder may import which. The imports are read from the sources."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from local.stack import ROOT

FUNCTIONS = ROOT / "functions"
CLIENT = ROOT / "client" / "serverless_sessions"
# Every part of the client may import this module, which imports none of them.
CLOCK = "serverless_sessions._core.clock"
LAMBDAS = sorted(path.name for path in FUNCTIONS.glob("session_*"))


def imported(source: str) -> set[str]:
    """Return every module that the import statements of a source name, in any place.

    `from package import name` counts as `package` and as `package.name`, which may be a module.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides where it leads"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def sources(*paths: Path) -> Iterator[Path]:
    """Return the Python files at and below `paths`."""
    for path in paths:
        assert path.exists()
        yield from path.rglob("*.py") if path.is_dir() else [path]


def crossings(*paths: Path, into: set[str]) -> list[str]:
    """Return the imports at or below `paths` that import one of these packages."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(*paths)
        for name in sorted(imported(path.read_text()))
        if any(name == package or name.startswith(f"{package}.") for package in into)
    ]


def test_imports_are_read_in_any_place() -> None:
    source = """
import os.path as path, bench.cold
from local import stack
def function():
    if path:
        from tests.template import ROOT
"""
    names = {"os.path", "bench.cold", "local", "local.stack"}
    assert imported(source) == names | {"tests.template", "tests.template.ROOT"}


def test_a_crossing_is_recognized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose name begins with the same text is a different package."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "module.py").write_text("import local_time\nfrom local.stack import HOST\n")

    assert crossings(tmp_path, into={"local"}) == [
        "module.py imports local.stack",
        "module.py imports local.stack.HOST",
    ]


def test_the_stack_imports_nothing_that_runs_or_tests_it() -> None:
    around = {"bench", "deploy", "local", "serverless_sessions", "tests"}
    assert not crossings(ROOT / "infra", into=around)
    assert not crossings(ROOT / "deploy", into=around - {"deploy"})


def test_benchmarks_import_no_test() -> None:
    assert not crossings(ROOT / "bench", into={"tests"})


def test_nothing_imports_a_conftest() -> None:
    """pytest provides fixtures. Code to import has its own module with a descriptive name."""
    conftests = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sources(ROOT / "tests")
        if path.name == "conftest.py"
    }
    assert len(conftests) > 5
    assert not crossings(ROOT / "tests", into=conftests)


@pytest.mark.parametrize("name", LAMBDAS)
def test_no_function_imports_the_folder_of_another(name: str) -> None:
    assert not crossings(FUNCTIONS / name, into=set(LAMBDAS) - {name})


@pytest.mark.parametrize("name", ["audit", "dynamodb", "expiry", "sessions"])
def test_shared_code_imports_no_function(name: str) -> None:
    assert not crossings(FUNCTIONS / name, into=set(LAMBDAS))


def test_errors_and_models_import_no_private_module() -> None:
    inside = {"serverless_sessions._core", "serverless_sessions._web"}
    paths = CLIENT / "errors.py", CLIENT / "models.py"
    assert {name for name in crossings(*paths, into=inside) if CLOCK not in name} == set()


@pytest.mark.parametrize("folder", [FUNCTIONS, CLIENT])
def test_one_module_reads_the_time(folder: Path) -> None:
    """Otherwise the simulation, or the tests of an app, would move some of the clocks only."""
    reading = r"(?<![\w.])(time\.(time|monotonic|sleep)|datetime\.(now|utcnow))\b|from time import"
    readers = {path.name for path in sources(folder) if re.search(reading, path.read_text())}
    assert readers == {"clock.py"}


def test_only_the_embedded_service_imports_the_functions() -> None:
    """It is a process of its own. The names of the functions must not get onto an app's path."""
    service = {"boto3", "deploy", "serverless_sessions_cdk"}
    assert not crossings(CLIENT, into={"bench", "local", "tests"} | service)
    functions = crossings(CLIENT, into={path.stem for path in FUNCTIONS.iterdir()})
    assert {crossing.partition(" ")[0] for crossing in functions} == {
        "client/serverless_sessions/serve/service.py"
    }


def rooms() -> dict[str, set[str]]:
    """The parts of the client that each of its parts imports. A module of its own is a part too."""
    names = {
        path.name.removesuffix(".py") for path in CLIENT.iterdir() if path.suffix in ("", ".py")
    }
    arrows: dict[str, set[str]] = {name: set() for name in names}
    for path in sources(CLIENT):
        room = path.relative_to(CLIENT).parts[0].removesuffix(".py")
        for name in imported(path.read_text()):
            package, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            is_clock = name == CLOCK or name.startswith(f"{CLOCK}.")
            if package == "serverless_sessions" and target in names - {room} and not is_clock:
                arrows[room].add(target)
    return arrows


def test_arrows_between_the_rooms_of_the_client_run_one_way() -> None:
    """`TopologicalSorter` raises an error that names the rooms of a circle."""
    TopologicalSorter(rooms()).prepare()


def test_what_operators_use_is_layered() -> None:
    arrows = rooms()

    assert arrows["wording"] <= {"_core"}
    assert not arrows["operate"] & {"cli", "console"}
    assert "cli" not in arrows["console"]
    apps = ("_core", "_web", "django", "flask", "starlette", "errors", "models", "__init__")
    for name in apps:
        assert not arrows[name] & {"cli", "console", "operate", "serve"}, name
    # The page of a user's devices shows the names of browsers.
    assert [name for name in apps if "wording" in arrows[name]] == ["_web"]
