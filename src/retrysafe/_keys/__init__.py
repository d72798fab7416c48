"""The rooms of key derivation, behind `retrysafe.keys`."""
