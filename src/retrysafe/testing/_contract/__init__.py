"""The rooms of the conformance suite, behind `retrysafe.testing.PersistenceLayerContract`."""
