"""The folder of a run: its lock, rows, checkpoints and summary; and the archive that is left of it. Imports no jax."""
