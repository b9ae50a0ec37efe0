"""Packaging of cql_atari."""

import pathlib
import re

import setuptools

with open('cql_atari/__init__.py') as source:
  VERSION = re.search(r"__version__ = '(.+)'", source.read())[1]

REPORT = [
  'rliable>=1.2',  # Interquartile means and their intervals.
  'pandas<3',  # arch, which rliable draws on, breaks with 3.
]
SWEEP = ['ray>=2.40']
D4RL = [
  'mujoco>=3.2,<3.11',  # FrankaKitchen-v1 fails with 3.13.
  'gymnasium-robotics>=1.4,<1.4.3',  # Adroit v1, with rewards put right here.
  'minari[hdf5,hf]>=0.5',
]
WANDB = ['wandb>=0.18']
SITE = [
  'mkdocs-material>=9.5,<10',
  'mkdocstrings-python>=1.12,<3',
  'L2M4M>=1.0,<2',  # Formulas as MathML.
]
EXPORT = ['tf2onnx>=1.16', 'onnxruntime>=1.18']

# Every module directly in the package is a command.
COMMANDS = sorted(
  path.stem
  for path in pathlib.Path('cql_atari').glob('*.py')
  if not path.name.startswith('_')
)

setuptools.setup(
  name='cql_atari',
  version=VERSION,
  description='Conservative Q-Learning on the DQN Replay dataset',
  long_description=pathlib.Path('README.md').read_text(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  classifiers=[
    'Development Status :: 4 - Beta',
    'Intended Audience :: Science/Research',
    'License :: OSI Approved :: Apache Software License',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: Python :: 3',
    'Programming Language :: Python :: 3.10',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Typing :: Typed',
  ],
  python_requires='>=3.10,<3.14',
  packages=[
    *setuptools.find_packages(include=['cql_atari*']),
    'cql_atari.gin_configs',
  ],
  package_dir={'cql_atari.gin_configs': 'gin_configs'},
  package_data={
    'cql_atari': [
      'py.typed',
      '*.pyi',
      'data/demo/*/*/*.json',
      'data/scores/*.csv',
      'data/demo/*/*/replay_logs/*.gz',
    ],
    'cql_atari.gin_configs': ['*.gin', '*/*.gin'],
  },
  install_requires=[
    # The set that imports together; see each reason.
    'tensorflow>=2.21,<2.22',  # numpy 2; the minor that was tested.
    'dopamine-rl==4.1.2',  # The newest; runs write its logs and statistics.
    'jax<0.7',  # Newer ones break TensorFlow Probability 0.25, as imported by
    'flax<0.12',  # Dopamine; this is the flax
    'orbax-checkpoint<0.13',  # and the orbax that go with that jax.
    'tensorboard>=2.20,<2.22',  # For Dopamine; TensorFlow dropped it.
    'setuptools<81',  # Dopamine's gym and TFP import pkg_resources, distutils.
    'gin-config>=0.5,<0.6',  # core/settings.py uses its parser.
    'ale-py>=0.12.1,<0.13',  # ALEVectorInterface, with a seed for each game.
    'gymnasium>=1.0,<2',  # D4RL's environments; ale-py needs it too.
    'absl-py>=2.0',
    'h5py>=3.10,<3.15',  # D4RL's files; TensorFlow's own bound.
    'numpy>=2.0,<3',  # TensorFlow 2.21 and ale-py 0.12 are built against 2.
    'opencv-python>=4.8',  # Dopamine's own; interleaves frames into states.
    'scipy>=1.11',  # Student's t; JAX needs it anyway.
    'zstandard>=0.22',  # Frames of a store.
    'fsspec[http]>=2024.2',  # Fetching from any URL.
    'isal>=1.7',  # Reads gzip at twice the speed of zlib.
    'annotated-types>=0.6',  # Bounds of settings, in annotations.
    'markdown>=3.5',  # Reports as HTML; TensorBoard needs it anyway.
    'psutil>=5.9',  # Whether frames fit into memory decompressed.
    'filelock>=3.16',  # One process a run folder, also on network disks.
    'platformdirs>=4',  # The cache folder of each system.
    'tabulate>=0.9',  # Tables in Markdown and HTML.
    'tenacity>=8',  # Fetching with patience.
    'tqdm>=4.60',  # Progress bars.
    'matplotlib>=3.7',  # Curves.
    'pillow>=10',  # Clips.
    'imageio-ffmpeg>=0.5',  # Films, with an H.264 encoder that browsers play.
    'rich>=13',  # The table of a sweep.
  ],
  extras_require={
    'dev': [
      'pytest>=8',
      'pytest-xdist>=3.5',  # pyproject.toml runs two workers.
      'pytest-timeout>=2.3',  # Finds hangs.
      'hypothesis>=6.100',
      'ruff>=0.8',
      'import-linter>=2.1',  # The floors of the house; see pyproject.toml.
      *REPORT,
      *SWEEP,
      *EXPORT,
      *WANDB,
      'mlflow-skinny>=2.16,<4',  # MLflow's client, a tenth of it.
      *SITE,
      *D4RL,
    ],
    'report': REPORT,
    'sweep': SWEEP,
    'd4rl': D4RL,
    'export': EXPORT,
    'wandb': WANDB,
    'mlflow': ['mlflow>=2.16,<4'],
    'docs': SITE,
    'gcs': ['gcsfs>=2024.2'],  # gs:// URLs.
    'gpu': ['tensorflow[and-cuda]>=2.21,<2.22'],
  },
  entry_points={
    'console_scripts': [
      f'cql-atari-{name.replace("_", "-")} = cql_atari.{name}:run'
      for name in COMMANDS
    ]
  },
)
