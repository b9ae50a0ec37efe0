"""Packaging of cql_atari."""

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
  'minari[hdf5]>=0.5',
]
EXPORT = ['tf2onnx>=1.16', 'onnxruntime>=1.18']

setuptools.setup(
  name='cql_atari',
  version=VERSION,
  description='Conservative Q-Learning on the DQN Replay dataset',
  license='Apache-2.0',
  python_requires='>=3.10,<3.14',
  packages=[
    *setuptools.find_packages(include=['cql_atari*']),
    'cql_atari.gin_configs',
  ],
  package_dir={'cql_atari.gin_configs': 'gin_configs'},
  package_data={
    'cql_atari': ['data/demo/*/*/*.json', 'data/demo/*/*/replay_logs/*.gz'],
    'cql_atari.gin_configs': ['*.gin', 'sweeps/*.gin', 'd4rl/*.gin'],
  },
  install_requires=[
    # The set that imports together; see each reason.
    'tensorflow>=2.21,<2.22',  # numpy 2; the minor that was tested.
    'dopamine-rl==4.1.2',  # The newest, and FixedReplayRunner uses its insides.
    'jax<0.7',  # Newer ones break TensorFlow Probability 0.25, as imported by
    'flax<0.12',  # Dopamine; this is the flax
    'orbax-checkpoint<0.13',  # and the orbax that go with that jax.
    'tensorboard>=2.20,<2.22',  # For Dopamine; TensorFlow dropped it.
    'setuptools<81',  # Dopamine's gym and TFP import pkg_resources, distutils.
    'gin-config>=0.5,<0.6',  # configuration.py uses its parser.
    'ale-py>=0.12.1,<0.13',  # AtariVectorEnv with per-environment seeds.
    'gymnasium>=1.0,<2',  # ale-py's vector environments.
    'absl-py>=2.0',
    'h5py>=3.10,<3.15',  # D4RL's files; TensorFlow's own bound.
    'numpy>=2.0,<3',  # TensorFlow 2.21 and ale-py 0.12 are built against 2.
    'opencv-python>=4.8',  # Dopamine's own; interleaves frames into states.
    'scipy>=1.11',  # Student's t; JAX needs it anyway.
    'zstandard>=0.22',  # Frames of a store.
    'fsspec[http]>=2024.2',  # Fetching from any URL.
    'isal>=1.7',  # Reads gzip at twice the speed of zlib.
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
      'hypothesis>=6.100',
      'ruff>=0.8',
      *REPORT,
      *SWEEP,
      *EXPORT,
      *D4RL,
    ],
    'report': REPORT,
    'sweep': SWEEP,
    'd4rl': D4RL,
    'export': EXPORT,
    'gcs': ['gcsfs>=2024.2'],  # gs:// URLs.
    'gpu': ['tensorflow[and-cuda]>=2.21,<2.22'],
  },
  entry_points={
    'console_scripts': [
      'cql-atari-train = cql_atari.train:run',
      'cql-atari-collect = cql_atari.collect:run',
      'cql-atari-sweep = cql_atari.sweep:run',
      'cql-atari-export = cql_atari.export:run',
      'cql-atari-plot = cql_atari.plot:run',
      'cql-atari-report = cql_atari.report:run',
      'cql-atari-value-gap = cql_atari.value_gap:run',
      'cql-atari-select = cql_atari.select_checkpoint:run',
      'cql-atari-watch = cql_atari.watch:run',
      'cql-atari-fetch = cql_atari.fetch:run',
      'cql-atari-fetch-d4rl = cql_atari.fetch:run',
      'cql-atari-prepare = cql_atari.prepare:run',
      'cql-atari-verify = cql_atari.verify:run',
      'cql-atari-theorems = cql_atari.theorems:run',
      'cql-atari-inspect = cql_atari.show:run',
    ]
  },
)
