"""The functions as they are in Lambda: their bundle, and boto3 in a separate folder."""

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
from deploy import bundle
from deploy.bundle import LAMBDA, Target
from deploy.interpreter import Interpreter, find_interpreter
from local.stack import ROOT

FUNCTIONS = (
    "session_api",
    "session_authorizer",
    "session_audit",
    "session_events",
    "session_timers",
    "session_sweeper",
)


@dataclass(frozen=True)
class Runtime:
    """What a process needs to run like a function in Lambda.

    `python` has the version of Lambda's runtime if this machine has such an interpreter. Otherwise
    it is the current one. It has compiled the sources in both folders.
    """

    folder: Path
    python: Interpreter

    def command(self, *arguments: str) -> list[str]:
        """Return a command that runs Python without the packages of this machine.

        Python writes no byte code, as on a read-only disk.
        """
        return [self.python.path, "-S", "-s", "-P", "-B", *arguments]

    def environment(self, *more_paths: Path) -> dict[str, str]:
        """Return the environment that the functions and AWS's SDK have in Lambda."""
        paths = self.folder / "task", self.folder / "runtime", *more_paths
        return _variables() | {
            "AWS_ACCESS_KEY_ID": "ASIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_SESSION_TOKEN": "IQoJb3JpZ2luX2Vj" + 45 * "EXAMPLEEXAMPLE//",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "DYNAMODB_ENDPOINT": "https://dynamodb.us-east-1.amazonaws.com",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
            "AWS_LAMBDA_FUNCTION_NAME": "function",
            "HOME": str(self.folder),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }


@contextmanager
def lambda_runtime() -> Iterator[Runtime]:
    """Build both folders as for a deployment, but for this machine."""
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
        yield Runtime(folder, python)


def _variables() -> dict[str, str]:
    """Return the environment variables of all functions in the stack together."""
    variables = {}
    for function in resources("AWS::Lambda::Function").values():
        for name, value in function["Environment"]["Variables"].items():
            # The other values are names of tables and the ARN of a role, and do not matter here.
            variables[name] = value if isinstance(value, str) else TABLE
    return variables
