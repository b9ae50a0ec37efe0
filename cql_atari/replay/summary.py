"""Statistics of a split, for its manifest, and of a store as text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cql_atari.replay import episodes, shard_folder
from cql_atari.replay.frames import STACK_SIZE
from cql_atari.replay.split import ShardRows, Split
from cql_atari.replay.store import Store, segments_of


def gained(
  selection: Sequence[ShardRows],
  columns: Mapping[str, np.ndarray],
  shards: Sequence[Mapping[str, Any]],
) -> int:
  """The number of transitions that are valid only because shards are joined.

  Args:
    selection: the rows of every shard, in the store's order.
    columns: 'terminals' and 'drawn' of the store's rows, (R,) each.
    shards: the manifest's.
  """
  valid = np.zeros(len(columns['drawn']), bool)
  for start, stop in segments_of(shards):
    valid[start + episodes.valid_rows(columns['terminals'][start:stop], 1)] = 1
  valid &= columns['drawn']
  count, row = 0, 0
  for rows in selection:
    if rows.stitch is not None:
      first = row + rows.stitch[1] - rows.stitch[0]
      horizon = len(rows.shard.invalid_range) - STACK_SIZE
      count += int(valid[row - horizon : first + STACK_SIZE - 1].sum())
    row += rows.num_rows
  return count


def behavior_return(
  selection: Sequence[ShardRows],
  columns: Mapping[str, np.ndarray],
  shards: Sequence[Mapping[str, Any]],
  split: Split,
) -> dict[str, Any] | None:
  """Mean return of the data's games: raw where recorded, else clipped.

  Args:
    selection: the rows of every shard, in the store's order.
    columns: 'terminals' and 'rewards' of the store's rows, (R,) each.
    shards: the manifest's.
    split: what chose the rows.

  Returns:
    Their mean, 'episodes' (how many), 'source' (in words) and is_clipped; None
    where no game is whole.
  """
  known = shard_folder.recorded_returns(selection[0].shard.directory)
  recorded = [r for rows in selection for r in known.get(rows.shard.index, ())]
  if recorded:
    source, returns = 'raw scores of all games begun in these shards', recorded
  else:
    source, returns = 'clipped rewards of the games whole in the split', []
    fresh, row = set(), 0  # Store rows where the run itself begins.
    for rows in selection:
      if (
        rows.shard.add_count <= rows.shard.capacity
        and not rows.ranges_in_play_order[0, 0]
      ):
        fresh.add(row)
      row += rows.num_rows
    if split.convention != 'uniform':  # Single transitions are no episodes.
      for start, stop in segments_of(shards).tolist():
        returns.extend(
          episodes.episode_returns(
            columns['terminals'][start:stop],
            columns['rewards'][start:stop],
            # Whole episodes were drawn, so each run of rows begins with one.
            from_start=start in fresh or split.convention == 'trajectories',
          )
        )
  if not len(returns):
    return None
  return {
    'mean': float(np.mean(returns)),
    'episodes': len(returns),
    'source': source,
    'is_clipped': not recorded,
  }


def describe(store: Store, action_names: Sequence[str]) -> str:
  """Statistics of a store as text."""
  manifest = store.manifest
  game, rows = manifest['game'], manifest['num_rows']
  split = ', '.join(
    f'{key} {value}' for key, value in manifest['split'].items()
  )
  behavior = manifest['behavior_return']
  lines = [
    f'{game}, run {manifest["run"]}: {len(manifest["shards"])} shards',
    f'split         {split}',
    f'rows          {rows:,}',
    f'transitions   {len(store.valid_transitions()):,}, of them '
    f'{manifest["transitions_gained_by_stitching"]} across borders of shards',
    f'games ended   {int((store.terminals != 0).sum()):,}',
    'mean game     '
    + (
      f'{behavior["mean"]:.2f} ({behavior["source"]}, {behavior["episodes"]:,})'
      if behavior
      else 'unknown: no whole game'
    ),
    f'size          {store.nbytes / 1e6:,.1f} MB, '
    f'{store.nbytes / rows:.0f} bytes a row',
  ]
  for title, column in (('action', store.actions), ('reward', store.rewards)):
    for value, count in zip(*np.unique(column, return_counts=True)):
      name = action_names[value] if title == 'action' else f'{value:g}'
      lines.append(f'{title} {name:<14}{count:>12,}  {count / rows:6.1%}')
  return '\n'.join(lines)
