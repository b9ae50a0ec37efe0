#!/usr/bin/env bash
# From offline to online on Breakout: CQL learns from the built-in data for 25,000
# steps and then plays 200,000 steps and learns from them, with its alpha and
# without, against the same agent that starts from nothing.
# Usage: online.sh [SEED ...]   (seed 0 by default; all goes to runs/online)
set -euo pipefail
out=runs/online
online=(--steps=200000 --gin_bindings=AtariEnvironments.max_steps_per_episode=1500)
for seed in "${@:-0}"; do
  offline="$out/offline-$seed"
  python -m cql_atari.train --base_dir="$offline" --gin_files=cql_demo.gin --gin_bindings="SEED=$seed" \
    --gin_bindings=FixedReplayRunner.num_iterations=5 --gin_bindings=FixedReplayRunner.training_steps=5000
  python -m cql_atari.collect --init_from="$offline" --out="$out/cql-$seed" --seed="$seed" "${online[@]}"
  python -m cql_atari.collect --init_from="$offline" --out="$out/qrdqn-$seed" --seed="$seed" "${online[@]}" \
    --gin_bindings=CQLMixin.alpha=0.0
  python -m cql_atari.collect --game=Breakout --out="$out/nothing-$seed" --seed="$seed" "${online[@]}" \
    --gin_files=cql_demo.gin --gin_files=collect_finetune.gin --gin_bindings=CQLMixin.alpha=0.0 \
    --gin_bindings=Collector.create_agent_fn=@CQLAgent --gin_bindings=Collector.epsilon_start=1.0 \
    --gin_bindings=Collector.epsilon_decay_period=50000
done
