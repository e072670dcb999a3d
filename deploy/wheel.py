"""`python -m deploy.wheel` adds to infra/ what its distribution has beyond the sources.

These are the bundle of the functions, the same as that of a deployment, and the licences of what is
in it. Without an interpreter of the runtime's version, the bundle has no byte code. A release needs
one.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from deploy import bundle

ROOT = Path(__file__).parent.parent
_PROJECT = ROOT / "infra"


def main() -> None:
    archive = bundle.archive(bundle.LAMBDA)
    shutil.copyfile(archive, _PROJECT / "serverless_sessions_cdk" / "bundle.zip")
    licenses = _PROJECT / "licenses"
    shutil.rmtree(licenses, ignore_errors=True)
    _copy(ROOT / "LICENSE", licenses / "serverless-sessions")
    with TemporaryDirectory() as folder, ZipFile(archive) as packed:
        packed.extractall(folder)
        for metadata in Path(folder).glob("*.dist-info"):
            package = metadata.name.partition("-")[0]
            for file in metadata.rglob("LICENSE*"):
                _copy(file, licenses / package)


def _copy(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / file.name)


if __name__ == "__main__":
    main()
