"""Checks the paper's theorems: python -m cql_atari.theorems.

Over random MDPs, dataset sizes and alphas, every inequality of Theorems 3.1 to
3.6 and of appendix D between computed numbers: how often it was tried, how
often it held, by how much at least. `--out=DIR` also draws the figures of
docs/theory.md.
"""

from cql_atari.core import command, progress, quiet
from cql_atari.core.errors import UserError
from cql_atari.core.files import make_folder, write_csv, write_text, writing

_COMMAND = command.Command(__doc__)
_MDPS = _COMMAND.integer('mdps', 100, 'MDPs of each family and size.', least=1)
_SEED = _COMMAND.seed('the MDPs and the datasets')
_DELTA = _COMMAND.number(
  'delta',
  0.1,
  'Probability that a bound on sampling error may fail, 0.4 at most; 0.1 in '
  'the figures.',
)
_OUT = _COMMAND.string('out', None, 'A folder for the table and figures.')


def main() -> int:
  """Checks and draws by the flags; 1 if a claim fails."""
  if not 0.001 <= _DELTA.value <= 0.4:
    raise UserError(f'--delta={_DELTA.value}: give 0.001 to 0.4.')
  out = make_folder('--out', _OUT.value) if _OUT.value else None
  with quiet.quiet():
    quiet.import_tensorflow()
    from cql_atari.tabular import checking, checks, figures
  results = checking.check_all(_MDPS.value, _SEED.value, _DELTA.value)
  claims = checking.merge(results)
  print(checking.table(claims))
  if out:
    with writing(f'--out={out}'):
      table = f'{checking.ABOUT}\n\n{checking.table(claims)}\n'
      write_text(out / 'checks.md', table)
      write_csv(
        out / 'checks.csv',
        ('family', 'transitions', *checks.Check._fields),
        [(family, size, *check) for family, size, check in results],
      )
      with progress.bar(len(figures.FIGURES), ' figures', 'drawing') as bar:
        for name in figures.FIGURES:
          figures.draw(name, out, _MDPS.value, _SEED.value)
          bar.update()
    print(f'The table and the figures are in {out}.')
  failed = [check for check in claims if not check.passed]
  unseen = sum(check.verdict == checks.NOT_SEEN for check in claims)
  print(
    f'{len(claims) - len(failed) - unseen} of {len(claims)} claims hold'
    + (f'; {unseen} rare ones were not seen: try more --mdps' if unseen else '')
    + '.'
  )
  return 1 if failed else 0


run = _COMMAND.entry_point(main)

if __name__ == '__main__':
  run()
