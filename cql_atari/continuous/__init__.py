"""Actor-critic CQL, its baselines and D4RL's tasks: continuous control."""
