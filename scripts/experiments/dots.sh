#!/usr/bin/env bash
# Searched, DARTS's and random edges among the same operations, several seeds, then the Kendall study of the first
# (thesis table 2.7 and figure 2.5) at any scale. What is there is not repeated.
#
# usage: scripts/experiments/dots.sh OUT RUN "TRAIN.bin" "TEST.bin" "SEEDS" [--set KEY=VALUE ...]
set -euo pipefail
out=$1 run=$2 train=$3 test=$4 seeds=$5
shift 5
inas() { "${INAS:-inas}" -q "$@"; }
data=(--run "$run" --data "$train" "$@")
for seed in $seeds; do
    s=$out/seed-$seed
    [ -e "$s/result.json" ] || inas dots search "${data[@]}" --set search.seed="$seed" -o "$s" > /dev/null
    for edges in dots darts random; do
        inas dots derive "$s" --edges "$edges" --seed "$seed" -o "$s/$edges.json" --svg "$s/$edges.svg" > /dev/null
        [ -e "$s/$edges/network.safetensors" ] ||
            inas dots train "$s/$edges.json" "${data[@]}" --test-data "$test" --set evaluation.seed="$seed" -o "$s/$edges" > /dev/null
        printf '%s\t%s\t%s\n' "$seed" "$edges" "$(tail -n 1 "$s/$edges/train.jsonl")"
    done
done
first=$out/seed-${seeds%% *}
inas dots rank "$first" "${data[@]}" --test-data "$test" -o "$out/rank" | tee "$out/rank.txt"
