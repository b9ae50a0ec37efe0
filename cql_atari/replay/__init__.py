"""From published DQN-Replay shards to training batches."""

from cql_atari.core import lazy

__getattr__, __dir__, __all__ = lazy.exports(
  __name__,
  {
    'shard': ('Shard',),
    'games': ('num_actions',),
    'shard_folder': ('demo_replay_dir', 'list_shards'),
    'split': ('Split', 'named_split'),
    'store': ('Store',),
    'sampler': ('Transition', 'TransitionSampler'),
    'recorder': ('Recorder', 'write_shard'),
    'record_replay': ('RecordReplay',),
    'memory': ('OnlineSampler', 'ReplayMemory'),
  },
)
