"""The rooms of the DynamoDB layer, behind `retrysafe.persistence.dynamodb`."""
