"""A lean client of DynamoDB with six operations, which are called like those of boto3's client."""
