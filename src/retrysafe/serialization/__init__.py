"""Output serializers: how a function's answer becomes a dict and comes back, one module each."""
