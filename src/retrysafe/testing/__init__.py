"""Tools for tests: of a persistence layer, and of a program that uses retrysafe."""
