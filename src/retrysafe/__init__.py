"""retrysafe makes work safe to retry: it runs once per idempotency key, and duplicates get the first answer."""

__version__ = "0.1.0"
