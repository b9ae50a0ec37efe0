"""Continuous control: agents for the tasks of D4RL."""

from cql_atari.core import lazy

__getattr__, __dir__, __all__ = lazy.exports(
  __name__,
  {
    'datasets': ('Dataset', 'open_task_data'),
    'environments': ('D4RLEnvironments',),
    'tasks': ('Task',),
    'agents.bc_agent': ('ContinuousBCAgent',),
    'agents.bear_agent': ('BEARAgent',),
    'agents.brac_agent': ('BRACAgent',),
    'agents.cql_agent': ('CQLSACAgent',),
    'agents.sac_agent': ('SACAgent',),
  },
)
