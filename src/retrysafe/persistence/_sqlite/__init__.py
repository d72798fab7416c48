"""The rooms of the SQLite layer, behind `retrysafe.persistence.sqlite`."""
