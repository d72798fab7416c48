"""What takes long is done before the first invocation, which would wait for it with its timeout running."""

from pathlib import Path

import pytest

from support.dynamodb_support import new_table
from support.lambda_runtime import LambdaRuntime

CODE = Path(__file__).parents[1] / "lambda_functions"


@pytest.mark.parametrize(
    ("layer", "libraries"),
    [("DynamoDBPersistenceLayer", ["botocore"]), ("AsyncDynamoDBPersistenceLayer", ["aiobotocore", "botocore"])],
)
def test_the_client_library_is_loaded_with_the_layer_and_boto3_not_at_all(layer, libraries, dynoxide):
    environ = {
        "LAYER": layer,
        "TABLE": new_table(dynoxide),
        "AWS_ENDPOINT_URL_DYNAMODB": dynoxide.url,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }
    with LambdaRuntime("own_client.handler", code=CODE, environ=environ) as runtime:
        invocation = runtime.invoke({"order": layer})
    assert invocation.outcome == "answer", invocation.log or invocation.error_message
    assert invocation.answer == {"before": libraries, "answers": [f"receipt for {layer}"], "after": libraries}
