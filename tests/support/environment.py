"""The environment variables of the tests' processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def replace_aws_settings() -> None:
    """Replace the AWS settings of the developer, so that tests never use a real account."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        # The CDK must find the Node.js of this environment, no matter how pytest was started.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
