"""`make deploy` and `make bootstrap`, with commands that only write down how they were called."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.template import ROOT


class Checkout:
    """A folder with the Makefile, in which everything is installed but does nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        shutil.copy(ROOT / "Makefile", folder)
        (folder / "deploy").symlink_to(ROOT / "deploy")
        self._command("node_modules/.bin/cdk", 'echo "$AWS_REGION cdk $*" >> calls; exit $FAIL')
        self._command(".venv/bin/sessions", 'echo "$AWS_REGION sessions $*" >> calls')
        self._command(".venv/bin/python", f'exec {sys.executable} "$@"')

    def _command(self, path: str, script: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def make(self, *arguments: str, **variables: str) -> tuple[int, str, list[str]]:
        """Run `make`; return its exit code, its errors and the commands that it ran.

        Nothing is configured but access keys and what `variables` say.
        """
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "FAIL": "0"}
        environment |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        done = subprocess.run(
            ["make", "--old-file=setup", "--no-print-directory", *arguments],  # noqa: S607
            cwd=self.folder,
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        return done.returncode, done.stderr, calls


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], ""),
        (["YES=1"], " --require-approval never"),
        (["REVERT_DRIFT=1"], " --revert-drift"),
        (["YES=1", "REVERT_DRIFT=1"], " --require-approval never --revert-drift"),
    ],
)
def test_deployment_asks_unless_told_not_to(
    checkout: Checkout, arguments: list[str], options: str
) -> None:
    """Without a terminal the CDK refuses to broaden permissions, for want of somebody to ask."""
    code, _, calls = checkout.make("deploy", "STAGE=prod", *arguments, AWS_REGION="eu-west-1")

    assert code == 0
    assert calls == [
        f"eu-west-1 cdk deploy --context stage=prod{options}",
        "eu-west-1 sessions --stage prod smoke",
    ]


def test_deployment_that_fails_is_not_smoked(checkout: Checkout) -> None:
    code, _, calls = checkout.make("deploy", AWS_REGION="eu-west-1", FAIL="1")

    assert code != 0
    assert calls == ["eu-west-1 cdk deploy --context stage=dev"]


@pytest.mark.parametrize("target", ["deploy", "bootstrap"])
@pytest.mark.parametrize("settings", [{}, {"AMAZON_REGION": "ap-south-1"}, {"AWS_REGION": ""}])
def test_nothing_is_deployed_to_a_region_that_nobody_chose(
    checkout: Checkout, target: str, settings: dict[str, str]
) -> None:
    """The CDK would take one by itself, and the smoke would look for the stack elsewhere."""
    code, errors, calls = checkout.make(target, **settings)

    assert code != 0
    assert errors.startswith("No AWS region is configured: set AWS_REGION, or")
    assert calls == []


@pytest.mark.parametrize("target", ["bootstrap", "diff", "deploy", "destroy"])
def test_missing_credentials_are_reported_before_the_cdk_starts(
    checkout: Checkout, target: str
) -> None:
    """The CDK says that it is "unable to resolve AWS account to use", and only after a while."""
    no_keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    code, errors, calls = checkout.make(target, **no_keys, AWS_EC2_METADATA_DISABLED="true")

    assert code != 0
    assert errors.startswith("No AWS region is configured: set AWS_REGION")
    assert "\nNo AWS credentials are configured: set AWS_PROFILE, or" in errors
    assert calls == []


@pytest.mark.parametrize("target", ["bootstrap", "diff", "deploy", "destroy"])
def test_exports_of_the_local_stack_are_recognized(checkout: Checkout, target: str) -> None:
    code, errors, calls = checkout.make(
        target, AWS_REGION="us-east-1", AWS_ENDPOINT_URL="http://127.0.0.1:4566"
    )

    assert code != 0
    assert errors.startswith("AWS_ENDPOINT_URL is http://127.0.0.1:4566, so this shell uses the")
    assert calls == []


def configure(folder: Path, text: str) -> dict[str, Any]:
    (folder / "config").write_text(text)
    return {"AWS_CONFIG_FILE": str(folder / "config")}


@pytest.mark.parametrize(
    ("settings", "region"),
    [
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_DEFAULT_REGION": "eu-west-2", "AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_PROFILE": "work"}, "eu-west-3"),
        ({}, "eu-north-1"),
    ],
)
def test_cdk_and_smoke_go_to_the_configured_region(
    checkout: Checkout, settings: dict[str, str], region: str
) -> None:
    profiles = "[default]\nregion = eu-north-1\n[profile work]\nregion = eu-west-3\n"

    code, _, calls = checkout.make(
        "deploy", **configure(checkout.folder, profiles), **settings, AMAZON_REGION="ap-south-1"
    )

    assert code == 0
    assert [call.split()[0] for call in calls] == [region, region]


def test_profile_that_does_not_exist_is_said_in_a_sentence(checkout: Checkout) -> None:
    code, errors, calls = checkout.make("deploy", AWS_PROFILE="nobody")

    assert code != 0
    assert errors.startswith("The config profile (nobody) could not be found\n")
    assert calls == []


def test_recipes_name_installed_commands_by_their_path() -> None:
    """make 3.81, Apple's, does not look into the exported PATH for a line that needs no shell."""
    recipes = re.findall(r"^\t@?(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    first_words = {
        re.sub(r"^(\w+=\S* )*", "", command.strip()).partition(" ")[0]
        for line in recipes
        for command in re.split(r"&&|\|\|?|;|\bdo\b|\bthen\b", line)
    }

    assert ".venv/bin/python" in first_words
    folders = ROOT / ".venv/bin", ROOT / "node_modules/.bin"
    installed = {path.name for folder in folders for path in folder.iterdir()}
    assert {"npm", "cdk"} <= installed
    assert first_words & installed == set()
