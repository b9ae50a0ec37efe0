"""From published DQN-Replay shards to training batches."""
