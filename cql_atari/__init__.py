"""Conservative Q-Learning on the DQN Replay dataset, in the Dopamine style.

store = cql_atari.open_store('data/Breakout/1', split=cql_atari.Split(0.01))
agent = cql_atari.CQLAgent(store, alpha=4.0)
agent.train_steps(10_000, show_progress=True)
cql_atari.evaluate(agent, 'Breakout').returns.mean()
"""

from cql_atari.core import baselines, lazy

__version__ = '0.1.0'

__getattr__, __dir__, __all__ = lazy.exports(
  __name__,
  {
    'agents': (
      'Adam',
      'BCAgent',
      'C51Agent',
      'CQLAgent',
      'CQLC51Agent',
      'CQLDQNAgent',
      'FixedReplayDQNAgent',
      'QRDQNAgent',
      'REMAgent',
      'RMSProp',
    ),
    'replay': (
      'Shard',
      'Split',
      'Store',
      'Transition',
      'TransitionSampler',
      'demo_replay_dir',
    ),
    'replay.opening': ('open_store',),
    'replay.record_replay': ('RecordReplay',),
    'analysis.figures': ('plot_runs',),
    'environments': ('AtariEnvironments', 'evaluate'),
    'training': ('FixedReplayRunner',),
    'training.fit': ('fit',),
    'runs': ('RunFolder', 'TrainedRun'),
    'continuous': (
      'BEARAgent',
      'BRACAgent',
      'CQLSACAgent',
      'ContinuousBCAgent',
      'D4RLEnvironments',
      'SACAgent',
      'open_task_data',
    ),
  },
)

baselines.provide_baselines()
