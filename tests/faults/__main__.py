"""`python -m faults`: campaigns on the layers named, or all, and a report; exit code 1 if any promise was broken."""
