"""The run folder: what it holds, and a trained run back from it."""
