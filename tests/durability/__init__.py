"""Promises, while clients vanish and processes are killed. `scripts/workers` goes longer."""
