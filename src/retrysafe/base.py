"""The handlers, under the path that authors of frameworks know: `retrysafe.base.IdempotencyHandler`."""

from retrysafe.handler import AsyncIdempotencyHandler, IdempotencyHandler

__all__ = ["AsyncIdempotencyHandler", "IdempotencyHandler"]
