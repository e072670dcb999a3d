"""The functions as Lambda would have them: their bundle and, in a folder of its own, boto3."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from tempfile import TemporaryDirectory

from bench.operations import TABLE
from bench.template import resources
from infra import bundle
from infra.bundle import LAMBDA, Target
from infra.interpreter import Interpreter, find_interpreter
from local.stack import ROOT

FUNCTIONS = ("session_api", "session_authorizer", "session_audit")


@dataclass(frozen=True)
class Shipped:
    """What a process needs to run as a function does.

    `python` is of the runtime's version if there is one on this machine, else the one that runs
    this; it has compiled both folders.
    """

    folder: Path
    python: Interpreter

    def command(self, *arguments: str) -> list[str]:
        """Python without packages of its own; it writes no byte code, as on a read-only disk."""
        return [self.python.path, "-S", "-s", "-P", "-B", *arguments]

    def environment(self, *more_paths: Path) -> dict[str, str]:
        """All that the functions and AWS's SDK find in Lambda's environment."""
        paths = self.folder / "task", self.folder / "runtime", *more_paths
        return _variables() | {
            "AWS_ACCESS_KEY_ID": "ASIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_SESSION_TOKEN": "IQoJb3JpZ2luX2Vj" + 45 * "EXAMPLEEXAMPLE//",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
            "AWS_LAMBDA_FUNCTION_NAME": "function",
            "HOME": str(self.folder),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }


@contextmanager
def shipped() -> Iterator[Shipped]:
    """Both folders, built as for a deployment but for this machine."""
    python = find_interpreter(LAMBDA.python) or Interpreter(sys.executable, python_version())
    target = Target(python.version.rpartition(".")[0])
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        bundle.build(folder / "task", target)
        bundle.install(
            folder / "runtime",
            target,
            f"boto3=={version('boto3')}",
            *("--constraint", str(ROOT / "requirements" / "development.txt")),
        )
        bundle.compile_sources(folder / "runtime", python)
        yield Shipped(folder, python)


def _variables() -> dict[str, str]:
    """What the stack gives to its functions, together."""
    variables = {}
    for function in resources("AWS::Lambda::Function").values():
        for name, value in function["Environment"]["Variables"].items():
            # The rest are names of tables, and the ARN of a role: none of them is looked at.
            variables[name] = value if isinstance(value, str) else TABLE
    return variables
