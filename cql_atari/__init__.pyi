"""What type checkers see: `__init__.py` imports these when first used."""

from cql_atari.agents.bc_agent import BCAgent as BCAgent
from cql_atari.agents.c51_agent import C51Agent as C51Agent
from cql_atari.agents.cql_agent import CQLAgent as CQLAgent
from cql_atari.agents.cql_agent import CQLC51Agent as CQLC51Agent
from cql_atari.agents.cql_agent import CQLDQNAgent as CQLDQNAgent
from cql_atari.agents.dqn_agent import (
  FixedReplayDQNAgent as FixedReplayDQNAgent,
)
from cql_atari.agents.optimizers import Adam as Adam
from cql_atari.agents.optimizers import RMSProp as RMSProp
from cql_atari.agents.qrdqn_agent import QRDQNAgent as QRDQNAgent
from cql_atari.agents.rem_agent import REMAgent as REMAgent
from cql_atari.analysis.figures import plot_runs as plot_runs
from cql_atari.continuous.agents.bc_agent import (
  ContinuousBCAgent as ContinuousBCAgent,
)
from cql_atari.continuous.agents.bear_agent import BEARAgent as BEARAgent
from cql_atari.continuous.agents.brac_agent import BRACAgent as BRACAgent
from cql_atari.continuous.agents.cql_agent import CQLSACAgent as CQLSACAgent
from cql_atari.continuous.agents.sac_agent import SACAgent as SACAgent
from cql_atari.continuous.datasets import open_task_data as open_task_data
from cql_atari.continuous.environments import (
  D4RLEnvironments as D4RLEnvironments,
)
from cql_atari.environments.atari import AtariEnvironments as AtariEnvironments
from cql_atari.environments.evaluation import evaluate as evaluate
from cql_atari.replay.opening import open_store as open_store
from cql_atari.replay.record_replay import RecordReplay as RecordReplay
from cql_atari.replay.sampler import Transition as Transition
from cql_atari.replay.sampler import TransitionSampler as TransitionSampler
from cql_atari.replay.shard import Shard as Shard
from cql_atari.replay.shard_folder import demo_replay_dir as demo_replay_dir
from cql_atari.replay.split import Split as Split
from cql_atari.replay.store import Store as Store
from cql_atari.runs.folder import RunFolder as RunFolder
from cql_atari.runs.trained import TrainedRun as TrainedRun
from cql_atari.training.fit import fit as fit
from cql_atari.training.runner import FixedReplayRunner as FixedReplayRunner

__version__: str
