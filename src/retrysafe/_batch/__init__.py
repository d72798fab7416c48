"""The rooms of batches, behind `retrysafe.batch`: many calls side by side."""
