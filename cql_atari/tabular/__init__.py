"""Exact CQL on finite MDPs: the paper's theorems as programs."""
