"""The bucket for records that can't be on record as what they say."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

# Below the prefix that Lambda itself uses, beside what its mapping gives up on.
_KEY = "aws/lambda/refused/%Y/%m/%d/%Y-%m-%dT%H.%M.%S"


def keep(records: list[Any], *, bucket: str) -> bool:
    """Put stream records whole into the bucket, as one document; answers whether S3 took it.

    The document has the form of those that Lambda puts there, so that one tool plays back both:
    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
    """
    # Needed in case of trouble alone, and takes longer to import than all else here.
    import boto3
    from aws_lambda_powertools import Logger
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    now = time.gmtime()
    document = {
        "version": "1.0",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", now),
        "payload": json.dumps({"Records": records}, default=repr),
    }
    config = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2})
    try:
        boto3.client("s3", config=config).put_object(
            Bucket=bucket,
            Key=f"{time.strftime(_KEY, now)}-{uuid4()}",
            Body=json.dumps(document).encode(),
            ContentType="application/json",
        )
    except (BotoCoreError, ClientError) as error:
        # The name alone: a message may quote the request.
        Logger().error("records not kept", cause=type(error).__name__, records=len(records))
        return False
    return True
