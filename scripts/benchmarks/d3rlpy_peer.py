"""d3rlpy's CQL, told what to do by `parity.py` from another environment.

Reads lines of JSON. The first has the settings, and the file of the data. Then
{"train": STEPS}, {"save": FILE} and {"load": FILE} are answered with a zero, a
float32, and {"what": "q_values" or "act", "shape": SHAPE}, which the states'
bytes follow, with an array's.
"""

import json
import os
import sys

import d3rlpy
import numpy as np
import torch

OUT = os.fdopen(os.dup(1), 'wb')
os.dup2(2, 1)  # Its own log lines go elsewhere.


def answer(array: np.ndarray) -> None:
  """Writes an array, float32."""
  OUT.write(np.ascontiguousarray(array, np.float32).tobytes())
  OUT.flush()


def episodes_of(arrays, is_pixels):
  """The data as d3rlpy's episodes."""
  ends = arrays['ends']  # The row after the last one of each.
  for start, stop in zip([0, *ends[:-1]], ends):
    rows = slice(start, stop)
    observations = arrays['observations'][rows]
    actions, rewards = arrays['actions'][rows], arrays['rewards'][rows]
    yield d3rlpy.dataset.Episode(
      observations[:, None] if is_pixels else observations,
      actions[:, None] if is_pixels else actions,
      rewards[:, None],
      bool(arrays['terminals'][stop - 1]),
    )


def make(settings, arrays):
  """The algorithm and the batches that it learns from."""
  d3rlpy.seed(settings['seed'])
  adam = d3rlpy.optimizers.AdamFactory(eps=settings['adam_epsilon'])
  has_gpu = torch.cuda.is_available()
  device = 'cuda:0' if has_gpu else 'cpu:0'
  if settings['kind'] == 'discrete':
    filters, hidden = settings['filters'], settings['hidden_units']
    shapes = [
      [n, size, stride]
      for n, size, stride in zip(filters, (8, 4, 3), (4, 2, 1))
    ]
    algo = d3rlpy.algos.DiscreteCQLConfig(
      batch_size=settings['batch_size'],
      learning_rate=settings['learning_rate'],
      optim_factory=adam,
      alpha=settings['alpha'],
      target_update_interval=settings['target_update_period'],
      observation_scaler=d3rlpy.preprocessing.PixelObservationScaler(),
      encoder_factory=d3rlpy.models.PixelEncoderFactory(
        filters=shapes, feature_size=hidden
      ),
      q_func_factory=d3rlpy.models.QRQFunctionFactory(
        n_quantiles=settings['num_quantiles']
      ),
      compile_graph=has_gpu,
    ).create(device=device)
    picker = d3rlpy.dataset.FrameStackTransitionPicker(4)
  else:
    encoder = d3rlpy.models.VectorEncoderFactory(settings['hidden_units'])
    algo = d3rlpy.algos.CQLConfig(
      batch_size=settings['batch_size'],
      actor_learning_rate=settings['policy_learning_rate'],
      critic_learning_rate=settings['critic_learning_rate'],
      temp_learning_rate=settings['policy_learning_rate'],
      alpha_learning_rate=0.0,
      # Its squared error is whole, ours is half.
      conservative_weight=2 * settings['alpha'],
      n_action_samples=settings['num_samples'],
      actor_encoder_factory=encoder,
      critic_encoder_factory=encoder,
      compile_graph=has_gpu,
    ).create(device=device)
    picker = d3rlpy.dataset.BasicTransitionPicker()
  is_pixels = settings['kind'] == 'discrete'
  buffer = d3rlpy.dataset.ReplayBuffer(
    d3rlpy.dataset.InfiniteBuffer(),
    episodes=list(episodes_of(arrays, is_pixels)),
    transition_picker=picker,
    action_space=d3rlpy.ActionSpace.DISCRETE if is_pixels else None,
    action_size=settings['action_size'],
  )
  if is_pixels:
    algo.create_impl((4, 84, 84), settings['action_size'])
  else:
    algo.build_with_dataset(buffer)
  return algo, buffer


def main() -> None:
  """Does as it is told."""
  torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '1')))
  lines = sys.stdin.buffer
  settings = json.loads(lines.readline())
  with np.load(settings['data']) as archive:
    arrays = dict(archive)
  algo, buffer = make(settings, arrays)
  is_pixels, device = settings['kind'] == 'discrete', algo.impl.device
  while line := lines.readline():
    message = json.loads(line)
    if 'train' in message:
      for _ in range(message['train']):
        algo.update(buffer.sample_transition_batch(algo.batch_size))
      answer(np.zeros(1))
      continue
    if path := message.get('save') or message.get('load'):
      (algo.save_model if 'save' in message else algo.load_model)(path)
      answer(np.zeros(1))
      continue
    shape = message['shape']
    dtype = np.uint8 if is_pixels else np.float32
    data = lines.read(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    states = np.frombuffer(data, dtype).reshape(shape)
    with torch.no_grad():
      if is_pixels:
        scaled = torch.tensor(states, dtype=torch.float32, device=device) / 255
        values = algo.impl._q_func_forwarder.compute_expected_q(scaled)
        answer(values.cpu().numpy())
      elif message['what'] == 'act':
        answer(algo.predict(states))
      else:
        values = algo.impl._q_func_forwarder.compute_expected_q(
          torch.tensor(states, device=device),
          torch.tensor(algo.predict(states), device=device),
          'min',
        )
        answer(values.cpu().numpy()[:, 0])


if __name__ == '__main__':
  main()
