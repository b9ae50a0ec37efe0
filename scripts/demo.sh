#!/usr/bin/env bash
# Trains CQL and QR-DQN on the built-in play of Breakout, draws their curves, and
# films CQL. Usage: demo.sh [SEED ...]   (seed 0 by default; all goes to runs/demo)
set -euo pipefail
seeds=("${@:-0}")
for seed in "${seeds[@]}"; do
  for agent in cql qrdqn; do
    echo "--- $agent, seed $seed"
    python -m cql_atari.train --base_dir="runs/demo/$agent-$seed" \
      --gin_files="${agent}_demo.gin" --gin_bindings="SEED=$seed"
  done
done
python -m cql_atari.watch --run="runs/demo/cql-${seeds[0]}" --out=runs/demo/play.gif --max_steps=400
python -m cql_atari.plot --runs='runs/demo/*-[0-9]*' --out=runs/demo/curve.png
