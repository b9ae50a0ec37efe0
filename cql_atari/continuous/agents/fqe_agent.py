"""Fitted Q evaluation (Le et al., 2019) of a continuous policy."""

import functools

import tensorflow as tf

from cql_atari.continuous import networks
from cql_atari.continuous.agents.base import ContinuousAgent, Loss
from cql_atari.continuous.agents.sac_agent import SACAgent
from cql_atari.continuous.datasets import Dataset
from cql_atari.continuous.sampling import Noise, Transition

# Rewards are carried back by a tenth of what SAC's slow target takes.
_TARGET_RATE = 0.05


class ContinuousFQEAgent(SACAgent):
  """Learns Q^pi of another agent's policy, from the data alone.

  It is SAC's critic, one, of the policy's size, beside a policy that does not
  move. BEAR's choice among several actions is not part of it.
  """

  MEASURED = ()

  def __init__(self, evaluated: ContinuousAgent, data: Dataset, seed: int = 0):
    """Builds the network, by the settings of the run that gin has.

    Args:
      evaluated: whose policy it is.
      data: what to learn from.
      seed: seeds the weights, the batches and the noise.
    """
    self._evaluated = evaluated
    super().__init__(
      evaluated.action_size,
      data,
      gamma=evaluated.gamma,
      critic=functools.partial(
        networks.Critic,
        hidden_units=evaluated.policy.hidden_units,
        num_critics=1,
      ),
      temperature=0.0,
      entropy_backup=False,
      target_rate=_TARGET_RATE,
      seed=seed,
    )

  def _build(self) -> None:
    self.policy = self._evaluated.policy
    self._temperature = self._make_temperature()
    self._build_critic()

  def _declared_scalars(self) -> tuple[str, ...]:
    return 'td_loss', 'q_data', 'gradient_norm'

  def after_step(self, scalars: dict[str, tf.Tensor]) -> None:
    """Moves the target networks."""
    self._move_targets()

  def policy_loss(self, batch: Transition, noise: Noise) -> Loss:
    """None: the policy stays as it is."""
    raise NotImplementedError
