#!/usr/bin/env bash
# Trains CQL and QR-DQN on the built-in play of Freeway and draws their curves.
# Usage: demo.sh [SEED ...]   (seed 0 by default; runs go to runs/demo)
set -euo pipefail
for seed in "${@:-0}"; do
  for agent in cql qrdqn; do
    echo "--- $agent, seed $seed"
    python -m cql_atari.train --base_dir="runs/demo/$agent-$seed" \
      --gin_files="${agent}_demo.gin" --gin_bindings="SEED=$seed"
  done
done
python -m cql_atari.plot --runs='runs/demo/*' --out=runs/demo/curve.png
