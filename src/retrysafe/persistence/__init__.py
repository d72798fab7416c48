"""Persistence layers: where records are kept, one module each."""
