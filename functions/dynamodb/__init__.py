"""A lean client of DynamoDB: six operations of its JSON protocol, called as boto3's client is."""
