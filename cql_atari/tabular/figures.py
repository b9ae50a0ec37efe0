"""A figure for each theorem, of values computed anew on random MDPs."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from scipy import special

from cql_atari.analysis import plotting
from cql_atari.tabular import (
  fixed_points,
  improvement,
  linear,
  lower_bounds,
  policy_learning,
  problems,
  slow_policies,
)
from cql_atari.tabular import mdp as mdp_lib

_SIZES = 10 ** np.arange(2, 9)  # Transitions of a dataset.
_SIZE = 1000  # Where it is not what varies.
_ALPHAS = np.logspace(-3, 1, 25)
_DELTA = 0.1  # Probability that a bound on sampling error may fail.
_RATIOS = np.logspace(-1.5, 1.5, 31)  # Of alpha to a threshold.
_EQ1, _EQ2, _H, _BOUND = '#D55E00', '#0072B2', '#009E73', '0.35'
_OTHERS = ('#56B4E9', '#CC79A7', '#E69F00')  # Of what is no equation.


def draw(name: str, out: pathlib.Path, count: int, seed: int) -> pathlib.Path:
  """Draws one figure as PNG.

  Args:
    name: one of FIGURES.
    out: the folder that the picture goes to.
    count: number of Garnet MDPs.
    seed: seeds the MDPs and the datasets.
  """
  figure, panels = plt.subplots(1, 2, figsize=(10.4, 3.6))
  for panel in panels:
    plotting.plain(panel)

  def sample(size=_SIZE):  # The same MDPs and policies for every size.
    rng = np.random.default_rng(seed)
    return problems.sample('garnet', count, int(size), rng)

  FIGURES[name](panels, sample)
  for panel in panels:
    if panel.get_legend_handles_labels()[0] and not panel.get_legend():
      panel.legend(frameon=False)
  path = out / f'{name}.png'
  plotting.save(figure, path)
  return path


def _band(panel: plt.Axes, x, values, label, color, ls='-') -> None:
  """The median over MDPs, axis 1, and the middle nine tenths; none of NaN."""
  values = np.asarray(values)
  some = ~np.isnan(values).all(axis=1)
  if not some.any():
    return
  x, values = np.asarray(x)[some], values[some]
  low, middle, high = np.nanquantile(values, [0.05, 0.5, 0.95], axis=1)
  panel.plot(x, middle, ls, color=color, label=label)
  panel.fill_between(x, low, high, color=color, alpha=0.15, lw=0)


def _against_threshold(
  panel: plt.Axes, excess: Callable, least: np.ndarray, color: str
) -> None:
  """Plots overestimation against alpha, in units of the threshold."""
  tried = least > 0
  over = np.array([excess(least * ratio)[tried] for ratio in _RATIOS])
  panel.plot(_RATIOS, over, color=color, alpha=0.12, lw=0.8)
  _band(panel, _RATIOS, over, None, color)
  panel.axhline(0, color='k', lw=0.8)
  panel.axvline(1, color='k', lw=0.8, ls=':')
  panel.set(xscale='log', xlabel=r'$\alpha$ / least $\alpha$')
  panel.set_yscale('symlog', linthresh=0.03)


def _learned(p, penalty, alpha, distribution) -> np.ndarray:
  return fixed_points.fixed_point(
    p.dataset.empirical, p.policy, penalty, alpha, p.behavior, distribution
  )


def _underestimate(p, penalty, alpha) -> np.ndarray:
  """E_{s ~ data}[V - V^], (n,), in units of R_max / (1 - gamma)."""
  states = p.dataset.counts.sum(axis=-1)
  learned = np.sum(p.policy * _learned(p, penalty, alpha, p.policy), axis=-1)
  true = mdp_lib.state_values(p.mdp, p.policy)
  return np.average(true - learned, axis=1, weights=states) / p.mdp.v_max


def _theorem_3_1(panels, sample) -> None:
  p = sample()
  q_values = mdp_lib.action_values(p.mdp, p.policy)

  def excess(alpha):
    learned = _learned(p, 'eq1', alpha, p.mu)
    return (learned - q_values).max(axis=(1, 2)) / p.mdp.v_max

  _against_threshold(panels[0], excess, lower_bounds.least_alphas(p)[0], _EQ1)
  panels[0].set(ylabel=r'max $\hat{Q} - Q$, in $R_{max}/(1-\gamma)$')
  _thresholds(panels[1], sample, 0, _EQ1)


def _thresholds(panel, sample, index, color) -> None:
  """The alpha that a bound needs against the size of the dataset."""
  drawn = [sample(size) for size in _SIZES]
  needed = np.array([lower_bounds.least_alphas(p)[index] for p in drawn])
  needed[needed <= 0] = np.nan  # There, even Q-learning is below.
  stated = [lower_bounds.stated_alphas(p, _DELTA)[index] for p in drawn]
  _band(panel, _SIZES, needed, 'least for these data', color)
  _band(panel, _SIZES, stated, 'stated by counts', _BOUND, '--')
  panel.set(xscale='log', yscale='log', ylabel=r'$\alpha$')
  panel.set(xlabel='transitions')


def _theorem_3_2(panels, sample) -> None:
  p = sample()
  for penalty, label, color in (
    ('eq1', r'Eq. 1, $\mu = \pi$', _EQ1),
    ('mu', r'Eq. 2, $\mu = \pi$', _EQ2),
    ('H', r'CQL($\mathcal{H}$)', _H),
  ):
    values = [_underestimate(p, penalty, alpha) for alpha in _ALPHAS]
    _band(panels[0], _ALPHAS, values, label, color)
  panels[0].axhline(0, color='k', lw=0.8)
  panels[0].set(xscale='log', xlabel=r'$\alpha$')
  panels[0].set(ylabel=r'mean $V - \hat{V}$, in $R_{max}/(1-\gamma)$')
  panels[0].set_yscale('symlog', linthresh=0.03)
  _thresholds(panels[1], sample, 1, _EQ2)


def _tightness(panels, sample) -> None:
  """Plots underestimation at the least safe alphas, by dataset size."""
  drawn = [sample(size) for size in _SIZES]
  drawn = [dataclasses.replace(p, mu=p.policy) for p in drawn]
  titles = 'the least alpha for these data', 'the alpha stated by counts'
  stated = functools.partial(lower_bounds.stated_alphas, delta=_DELTA)
  alphas = lower_bounds.least_alphas, stated
  for panel, title, alphas_of in zip(panels, titles, alphas):
    for name, penalty, label, color in (
      ('q_by_eq1', 'eq1', 'Eq. 1, to bound Q', _EQ1),
      ('v_by_eq1', 'eq1', 'Eq. 1, to bound V', _OTHERS[1]),
      ('v_by_eq2', 'mu', 'Eq. 2, to bound V', _EQ2),
    ):
      values = [
        _underestimate(p, penalty, np.maximum(getattr(alphas_of(p), name), 0))
        for p in drawn
      ]
      _band(panel, _SIZES, np.maximum(values, 1e-9), label, color)
    panel.set(xscale='log', yscale='log', xlabel='transitions', title=title)
    panel.set(ylabel=r'mean $V - \hat{V}$, in $R_{max}/(1-\gamma)$')


def _theorem_d_1(panels, sample) -> None:
  p = sample()
  states, actions = p.policy.shape[1:]
  rng = np.random.default_rng(0)
  below, above = [], []
  widths = np.arange(1, states * actions, 3)
  for width in widths:
    features = linear.random_features(rng, p, width)
    step = linear.linear_step(p, features, np.zeros_like(p.policy))
    below.append(np.where(step.alpha > 0, step.alpha, np.nan))
    above.append(step.lowered)
  _band(panels[0], widths, above, None, _EQ2)
  panels[0].set(ylabel=r'$\|\Pi(\pi/\hat\pi_\beta - 1)\|^2$', yscale='log')
  _band(panels[1], widths, below, None, _EQ2)
  panels[1].set(ylabel=r'least $\alpha$ of the first update', yscale='log')
  for panel in panels:
    panel.set(xlabel='random features, beside a constant one')


def _theorem_3_3(panels, sample) -> None:
  p = sample()
  for panel, penalty in zip(panels, ('H', 'rho')):
    for alpha, color in zip((0.1, 1.0, 10.0), _OTHERS):
      rounds = slow_policies.slow_policy(p, penalty, alpha)
      condition = np.concatenate([r.condition.min(axis=1) for r in rounds])
      slack = np.concatenate([(r.values - r.learned).min(1) for r in rounds])
      panel.plot(
        condition, slack / p.mdp.v_max, '.', ms=3, color=color, alpha=0.4,
        label=rf'$\alpha$ = {alpha:g}',
      )  # fmt: skip
    panel.axhline(0, color='k', lw=0.8)
    panel.axvline(0, color='k', lw=0.8, ls=':')
    panel.set(title=rf'CQL({penalty})', xlabel='condition: left minus right')
    panel.set(ylabel=r'min $V - \hat{V}$, in $R_{max}/(1-\gamma)$')
    panel.set_xscale('symlog', linthresh=0.1)
    panel.set_yscale('symlog', linthresh=0.01)
    panel.legend(frameon=False, markerscale=3)


def _greedy(panels, sample) -> None:
  """V^ of CQL(H) by the true backup, for softmax(Q^) and the greedy policy."""
  p = sample()
  best = p.policy
  for _ in range(20):  # Policy iteration.
    actions = mdp_lib.action_values(p.mdp, best).argmax(axis=-1)
    best = np.eye(best.shape[-1])[actions]
  rng = np.random.default_rng(0)
  any_action = rng.permuted(best, axis=-1)
  alphas, shares = _ALPHAS[::2], np.linspace(0.0, 0.98, 10)
  for color, (greedy, often, label) in zip(
    _OTHERS,
    (
      (False, best, r'$\pi \propto \exp(\hat{Q})$'),
      (True, any_action, r'$\pi$ greedy, data of random actions'),
      (True, best, r'$\pi$ greedy'),
    ),
  ):
    values = [_overestimate(p, 0.6, often, alpha, greedy) for alpha in alphas]
    _band(panels[0], alphas, values, label, color)
    values = [_overestimate(p, share, often, 1.0, greedy) for share in shares]
    uniform = (1 - shares) / best.shape[-1]
    _band(panels[1], shares + uniform, values, label, color)
  panels[0].set(xscale='log', xlabel=r'$\alpha$')
  panels[1].set(xlabel="share of one action in the data's states")
  for panel in panels:
    panel.axhline(0, color='k', lw=0.8)
    panel.set(ylabel=r'mean $\hat{V} - V$, in $R_{max}/(1-\gamma)$')


def _overestimate(p, share, best, alpha, greedy, rounds=8) -> np.ndarray:
  """Mean V^ - V, (n,), after rounds of evaluation and full improvement."""
  actions = best.shape[-1]
  behavior = (1 - share) / actions + share * best
  policy = behavior
  for _ in range(rounds):
    learned = fixed_points.fixed_point(p.mdp, policy, 'H', alpha, behavior)
    last, policy = policy, special.softmax(learned, axis=-1)
    if greedy:
      policy = np.eye(actions)[learned.argmax(axis=-1)]
  values = np.sum(last * learned, axis=-1) - mdp_lib.state_values(p.mdp, last)
  return values.mean(axis=-1) / p.mdp.v_max


def _theorem_3_4(panels, sample) -> None:
  p = sample()
  learned = np.zeros_like(p.policy)
  for panel, iteration, more in zip(panels, (1, 10), (1, 9)):
    for _ in range(more):
      mu, true, least, updated = policy_learning.gap_step(p, learned)
      learned = updated(np.maximum(least, 0))

    def excess(alpha, updated=updated, true=true, mu=mu):
      gap = np.sum((p.behavior - mu) * (updated(alpha) - true), axis=-1)
      return gap.min(axis=-1) / p.mdp.v_max

    _against_threshold(panel, excess, least, _EQ2)
    panel.set(title=f'iteration {iteration}')
    panel.set(ylabel=r'min gap gained, in $R_{max}/(1-\gamma)$')


def _theorem_3_5(panels, sample) -> None:
  p = sample()
  empirical, behavior = p.dataset.empirical, p.behavior
  off = 0.0
  for alpha, color in zip((0.1, 1.0, 10.0), _OTHERS):
    learned = policy_learning.learned_return(
      empirical, p.policy, behavior, alpha
    )
    closed = improvement.penalized_return(empirical, p.policy, behavior, alpha)
    panels[0].plot(
      closed, learned, '.', color=color, label=rf'$\alpha$ = {alpha:g}'
    )
    off = max(off, np.max(np.abs(learned - closed) / (1 + np.abs(closed))))
  panels[0].set(title=f'equal but for {off:.0e} of their size')
  panels[0].axline((0, 0), slope=1, color='k', lw=0.8)
  panels[0].set_xscale('symlog', linthresh=1.0)
  panels[0].set_yscale('symlog', linthresh=1.0)
  panels[0].set(xlabel='penalised return', ylabel=r'$E_\rho[\hat{V}]$')
  rows = {'in the empirical MDP': [], 'in the true MDP': [], 'penalised': []}
  for alpha in _ALPHAS:
    policy = improvement.improved_policy(empirical, behavior, alpha)
    promised = improvement.penalized_return(empirical, policy, behavior, alpha)
    floor = mdp_lib.expected_return(empirical, behavior)
    gains = (
      -improvement.regret(empirical, policy, behavior),
      -improvement.regret(p.mdp, policy, behavior),
      promised - floor,
    )
    for row, values in zip(rows.values(), gains):
      row.append(values / p.mdp.v_max)
  for (label, row), color in zip(rows.items(), _OTHERS):
    _band(panels[1], _ALPHAS, row, label, color)
  panels[1].axhline(0, color='k', lw=0.8)
  panels[1].set(xscale='log', xlabel=r'$\alpha$')
  panels[1].set(ylabel=r"$\pi^*$'s return above $\hat\pi_\beta$'s")


def _theorem_3_6(panels, sample) -> None:
  for panel, alpha in zip(panels, (0.01, 1.0)):
    zetas, regrets = [], []
    for size in _SIZES:
      p = sample(size)
      policy = improvement.improved_policy(
        p.dataset.empirical, p.behavior, alpha
      )
      zetas.append(improvement.improvement_bound(p.dataset, policy, _DELTA))
      regrets.append(improvement.regret(p.mdp, policy, p.behavior))
    zetas, regrets = np.divide((zetas, regrets), p.mdp.v_max)
    _band(panel, _SIZES, zetas, r'$\zeta$', _BOUND, '--')
    _band(panel, _SIZES, regrets, r'regret of $\pi^*$', _EQ2)
    panel.axhline(0, color='k', lw=0.8)
    panel.axhline(
      2, color='k', lw=0.8, ls=':', label='the most there is to lose'
    )
    panel.set(xscale='log', title=rf'$\alpha$ = {alpha:g}')
    panel.set(xlabel='transitions', ylabel=r'in $R_{max}/(1-\gamma)$')
    panel.set_yscale('symlog', linthresh=0.3)


FIGURES = {
  'theorem_3_1': _theorem_3_1,
  'theorem_3_2': _theorem_3_2,
  'tightness': _tightness,
  'theorem_d_1': _theorem_d_1,
  'theorem_3_3': _theorem_3_3,
  'greedy': _greedy,
  'theorem_3_4': _theorem_3_4,
  'theorem_3_5': _theorem_3_5,
  'theorem_3_6': _theorem_3_6,
}
