"""The rooms of the crash test, behind `retrysafe.testing.crash_points`."""
