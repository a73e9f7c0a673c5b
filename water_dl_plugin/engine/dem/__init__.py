"""Elevation models: bringing several to one grid and level, making coarse ones finer, measuring how good they are."""
