"""What a deployment uploads for the functions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from infra.python_function import _LAMBDA, _UvBundling

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as for Lambda: the packages' wheels for another machine, and no Docker."""
    folder = tmp_path_factory.mktemp("bundle")
    options: Any = None
    assert _UvBundling(_LAMBDA).try_bundle(str(folder), options)
    return folder


def test_bundle_is_small(bundle: Path) -> None:
    """Lambda fetches it at each cold start; boto3 is there already."""
    files = [path for path in bundle.rglob("*") if path.is_file()]
    archive = Path(shutil.make_archive(str(bundle.parent / "bundle"), "zip", bundle))

    assert sum(path.stat().st_size for path in files) < 6 * MEGABYTE
    assert archive.stat().st_size < 1.6 * MEGABYTE
    assert not {"boto3", "botocore"} & {path.name for path in bundle.iterdir()}


def test_bundle_is_for_lambdas_machine(bundle: Path) -> None:
    extensions = [path.name for path in bundle.rglob("*.so")]

    assert extensions
    for name in extensions:
        assert name.endswith(".cpython-313-aarch64-linux-gnu.so")


def test_bundle_holds_the_functions_without_leftovers(bundle: Path) -> None:
    for package in ("session_api", "session_audit", "session_authorizer"):
        assert (bundle / package / "handler.py").is_file()
    assert not list(bundle.rglob("__pycache__"))
