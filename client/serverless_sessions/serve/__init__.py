"""DynamoDB's part of the embedded service: tables in memory, and the expressions they evaluate."""
