"""The environment of the tests' processes: that of no real account."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def replace_aws_settings() -> None:
    """Keep tests off real accounts, whatever the settings of whoever runs them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        # The CDK finds the Node.js of this environment, however pytest was started.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
