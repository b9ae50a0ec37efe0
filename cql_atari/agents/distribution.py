"""Gradient steps on several devices of one machine."""

import tensorflow as tf

from cql_atari.core.constraints import PositiveInt, configurable
from cql_atari.core.errors import UserError
from cql_atari.replay.sampler import Transition


@configurable
def mirrored_strategy(
  num_devices: PositiveInt | None = None,
) -> tf.distribute.Strategy:
  """A strategy for synchronous data parallelism on one machine.

  Every device holds a copy of the networks and computes its part of each batch.

  Args:
    num_devices: number of GPUs, or of logical CPU devices on a machine without
      GPUs; all by default.

  Returns:
    A MirroredStrategy.

  Raises:
    UserError: the machine has fewer devices.
  """
  kind = 'GPU' if tf.config.list_logical_devices('GPU') else 'CPU'
  devices = tf.config.list_logical_devices(kind)
  if (num_devices or 1) > len(devices):
    raise UserError(
      f'mirrored_strategy.num_devices is {num_devices}, but there are '
      f'{len(devices)} {kind} devices: give 1 to {len(devices)}.'
    )
  return tf.distribute.MirroredStrategy(
    [device.name for device in devices[:num_devices]]
  )


def check(
  replicas: int, batch_size: int, compile_step: bool | None, on_device: bool
) -> None:
  """Refuses what several devices cannot do together.

  Raises:
    UserError: settings of FixedReplayAgent, or data that lie on one GPU.
  """
  if batch_size % replicas:
    raise UserError(
      f'FixedReplayAgent.batch_size is {batch_size}: give a multiple of the '
      f'{replicas} devices.'
    )
  if replicas > 1 and on_device:
    raise UserError(
      "open_store.residence='device' is for one GPU: several share 'raw'."
    )
  if replicas > 1 and compile_step:
    raise UserError('FixedReplayAgent.compile_step is for one device only.')


def spread(strategy: tf.distribute.Strategy, chunk: Transition) -> Transition:
  """Gives every device its part of each batch, of fields (K, B, ...)."""
  replicas = strategy.num_replicas_in_sync
  if replicas == 1:
    return chunk

  def part(device: tf.distribute.experimental.ValueContext) -> Transition:
    first = device.replica_id_in_sync_group
    return Transition(*(x[:, first::replicas] for x in chunk))

  return strategy.experimental_distribute_values_from_function(part)
