"""The rooms of the cache layer, behind `retrysafe.persistence.cache`."""
