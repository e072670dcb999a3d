"""The bucket for stream records that a consumer can't process."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

import clock

# Lambda's event source mapping puts the records that it gives up under the same prefix.
_KEY = "aws/lambda/refused/%Y/%m/%d/%Y-%m-%dT%H.%M.%S"


def keep(records: list[Any], *, bucket: str) -> bool:
    """Put complete stream records into the bucket, as one document. Returns whether S3 accepted it.

    The document has the format of Lambda's own documents, so that one tool can play back both:
    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
    """
    # These are needed only after a failure, and take longer to import than everything else here.
    import boto3
    from aws_lambda_powertools import Logger
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    now = time.gmtime(clock.time())
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
        # Only the name is logged, because the message may quote the request.
        Logger().error("records not kept", cause=type(error).__name__, records=len(records))
        return False
    return True
