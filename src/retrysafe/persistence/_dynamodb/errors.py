"""What boto3 and DynamoDB raise, as this library's errors: told by the service's error codes and by class names.

No client library is imported for it, so one table serves boto3 and aiobotocore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from retrysafe.exceptions import (
    IdempotencyBaseError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence._dynamodb.commands import TOO_LARGE

if TYPE_CHECKING:
    from collections.abc import Mapping

_Config = IdempotencyPersistenceConfigError
_Connection = IdempotencyPersistenceConnectionError
_Layer = IdempotencyPersistenceLayerError

_CREDENTIALS: Final = "check the credentials (environment, profile or role) that boto3 finds"
_PERMISSIONS: Final = (
    "which needs dynamodb:PutItem, GetItem, UpdateItem and DeleteItem on it, "
    "and the use of its key where it is encrypted with one of your own"
)
_RESOURCE: Final = "It seems so too where the client is that of a resource: pass boto3.client('dynamodb')"
_THROTTLED: Final = "is throttled: it, or one of its partitions, takes no more for the moment"
_CLOCK: Final = "refuses the signature because this machine's clock is wrong; set it right"

WRONG_KEY: Final = "retrysafe.WrongKeySchema"
LONG_KEY: Final = "retrysafe.KeyTooLong"
WRONG_CLOCK: Final = "retrysafe.WrongClock"

_KINDS: Final[Mapping[str, tuple[type[IdempotencyBaseError], str]]] = {
    # --- the table
    "ResourceNotFoundException": (
        _Config,
        "does not exist in this region and account; layer.create_table() makes it",
    ),
    WRONG_KEY: (
        _Config,
        "has another key than key_attr and sort_key_attr say, or one that is no string; layer.check() tells which. "
        + _RESOURCE,
    ),
    LONG_KEY: (
        _Config,
        "takes no key as long as this one: at most 2048 bytes, and 1024 for a sort key; use a shorter key_prefix",
    ),
    "ValidationException": (_Layer, "refused the request as invalid"),
    TOO_LARGE: (_Layer, "refused the item as too large"),
    "ItemCollectionSizeLimitExceededException": (_Layer, "has a local secondary index whose 10 GB are full"),
    "LimitExceededException": (_Layer, "cannot be changed at the moment: too many changes of tables are under way"),
    "ResourceInUseException": (_Config, "exists already, or is just being changed"),
    # --- who asks
    "AccessDeniedException": (
        _Config,
        f"is not permitted to this role or user, {_PERMISSIONS}",
    ),
    "UnrecognizedClientException": (_Config, f"does not know these credentials; {_CREDENTIALS}"),
    "InvalidClientTokenId": (_Config, f"does not know these credentials; {_CREDENTIALS}"),
    "MissingAuthenticationToken": (_Config, f"wants credentials; {_CREDENTIALS}"),
    "MissingAuthenticationTokenException": (_Config, f"wants credentials; {_CREDENTIALS}"),
    "IncompleteSignature": (_Config, f"refuses the signature; {_CREDENTIALS}"),
    "IncompleteSignatureException": (_Config, f"refuses the signature; {_CREDENTIALS}"),
    "InvalidSignatureException": (_Config, f"refuses the signature; {_CREDENTIALS}"),
    "OptInRequired": (_Config, "is in a region or service that this account has not been subscribed to"),
    "ExpiredTokenException": (_Config, "refuses the credentials because they have expired; renew them"),
    "ExpiredToken": (_Config, "refuses the credentials because they have expired; renew them"),
    # From STS, where boto3 assumes a role before it asks.
    "AccessDenied": (_Config, f"cannot be asked: the role is refused that boto3 is to assume; {_CREDENTIALS}"),
    "InvalidIdentityToken": (_Config, f"cannot be asked: the identity token is refused; {_CREDENTIALS}"),
    WRONG_CLOCK: (_Config, _CLOCK),
    "RequestExpired": (_Config, _CLOCK),
    "RequestTimeTooSkewed": (_Config, _CLOCK),
    # --- for the moment
    "ProvisionedThroughputExceededException": (_Layer, _THROTTLED),
    "ThrottlingException": (_Layer, _THROTTLED),
    "Throttling": (_Layer, _THROTTLED),
    "RequestLimitExceeded": (_Layer, "is throttled: the account's limit for the region is reached"),
    "TransactionConflictException": (_Layer, "has the record in a transaction that is under way"),
    "TransactionInProgressException": (_Layer, "has the record in a transaction that is under way"),
    "ReplicatedWriteConflictException": (_Layer, "has the record under a write in another region"),
    "InternalServerError": (_Connection, "had a fault inside of DynamoDB"),
    "InternalFailure": (_Connection, "had a fault inside of DynamoDB"),
    "ServiceUnavailable": (_Connection, "is not available at the moment"),
    "ServiceUnavailableException": (_Connection, "is not available at the moment"),
}
"""By the service's error code."""

_BY_NAME: Final[Mapping[str, tuple[type[IdempotencyBaseError], str]]] = {
    "NoCredentialsError": (_Config, f"cannot be asked without credentials; {_CREDENTIALS}"),
    "PartialCredentialsError": (_Config, f"cannot be asked with half of the credentials; {_CREDENTIALS}"),
    "CredentialRetrievalError": (_Config, f"cannot be asked: getting the credentials failed; {_CREDENTIALS}"),
    "NoAuthTokenError": (_Config, f"cannot be asked without a token; {_CREDENTIALS}"),
    "TokenRetrievalError": (_Config, f"cannot be asked: getting the token failed; {_CREDENTIALS}"),
    "SSOError": (_Config, f"cannot be asked: the single sign-on is over; {_CREDENTIALS}"),
    "LoginError": (_Config, f"cannot be asked: the login gives no credentials; {_CREDENTIALS}"),
    "RefreshWithMFAUnsupportedError": (_Config, f"cannot be asked: the role wants a second factor; {_CREDENTIALS}"),
    "ProfileNotFound": (_Config, "cannot be asked: the profile does not exist"),
    "NoRegionError": (
        _Config,
        "cannot be asked without a region; give region_name, or set AWS_REGION or AWS_DEFAULT_REGION",
    ),
    "InvalidRegionError": (_Config, "cannot be asked: the region has no valid name"),
    "UnknownEndpointError": (_Config, "cannot be asked: there is no such endpoint"),
    "InvalidConfigError": (_Config, "cannot be asked: boto3's configuration is wrong"),
    "ParamValidationError": (_Config, "cannot be asked like that"),
    "SSLError": (_Connection, "cannot be reached: TLS failed"),
    "MetadataRetrievalError": (_Connection, "cannot be asked: getting the credentials failed"),
    "HTTPClientError": (_Connection, "cannot be reached or did not answer"),
    "ConnectionError": (_Connection, "cannot be reached or did not answer"),
    "OSError": (_Connection, "cannot be reached or did not answer"),
}
"""By a class's name; the nearest one in the order of resolution counts."""

_SIZES: Final = ("size has exceeded", "size to update has exceeded", "exceeded the maximum allowed size")
_LENGTHS: Final = ("size of hashkey", "size of all range keys", "size of rangekey", "primary key values must be under")
_SCHEMAS: Final = (
    "does not match the schema",
    "missing the key",
    "required keys was not given",
    "conditions on the keys is invalid",
    "type mismatch for key",
)
_EXPIRED: Final = "credentials are still expired"
_SKEWS: Final = ("signature expired", "signature not yet current")


def code_of(response: Any) -> str:
    """The error code of a response; a ValidationException by what it says. "" where it is no error."""
    if "Error" not in response:
        return ""
    error = response["Error"]
    code, said = str(error.get("Code", "")), str(error.get("Message", "")).lower()
    # Some answer with a namespace before it.
    code = code.rpartition("#")[2]
    if code == "ValidationException":
        for name, parts in ((LONG_KEY, _LENGTHS), (TOO_LARGE, _SIZES), (WRONG_KEY, _SCHEMAS)):
            if any(part in said for part in parts):
                return name
    if code == "InvalidSignatureException" and any(part in said for part in _SKEWS):
        return WRONG_CLOCK
    return code


def response_of(error: Exception) -> dict[str, Any] | None:
    """The service's answer, where the error is one."""
    response = getattr(error, "response", None)
    return cast("dict[str, Any]", response) if isinstance(response, dict) and "Error" in response else None


def explained(error: Exception, where: str) -> Exception:
    """The error to raise instead, to be chained to its cause.

    Args:
        error: What the client raised.
        where: The table, as a person knows it.
    """
    if isinstance(error, IdempotencyBaseError):
        return error
    response = response_of(error)
    if response is not None:
        return explained_response(response, where)
    for cls in type(error).__mro__:
        if cls.__name__ in _BY_NAME:
            kind, what = _BY_NAME[cls.__name__]
            return kind(f"{where} {what}", str(error))
    if _EXPIRED in str(error):  # a RuntimeError
        return _Config(f"{where} cannot be asked: the credentials have expired by this machine's clock", str(error))
    return IdempotencyPersistenceLayerError(f"{where} cannot be asked", f"{type(error).__name__}: {error}")


def explained_response(response: Any, where: str) -> Exception:
    """The error to raise for an answer of the service."""
    code = code_of(response)
    said = response["Error"]
    told = f"{said.get('Code')}: {said.get('Message')}"
    known = _KINDS.get(code)
    if known is not None:
        return known[0](f"{where} {known[1]}", told)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = _Connection if isinstance(status, int) and status >= 500 else _Layer  # noqa: PLR2004  # the service's fault
    return kind(f"{where} refused the request", told)
