#!/usr/bin/env bash
# The experiments of thesis chapter 2 at any scale, one a call. What is there is not repeated, what was interrupted goes
# on. Every trained network is a line of OUT/table.tsv: variant, seed, test accuracy; means follow on standard output.
#
# usage: scripts/experiments/dots.sh EXPERIMENT OUT RUN "TRAIN.bin" "TEST.bin" "SEEDS" [--set KEY=VALUE ...]
#
# EXPERIMENT is one of
#   edges      searched, DARTS's and random edges among the same operations (table 2.7; RANDOM_EDGES=5 samples a seed)
#   weights    four ways to weight edges, among the same operations (table 2.5)
#   operations four ways to search operations, each with its edges searched (table 2.6)
#   methods    five searches of operations, with their own edges and with searched ones (table 2.4)
#   stability  the whole search from several seeds (table 2.8)
#   case       DARTS's operations with DARTS's and with searched edges (figure 2.6; the thesis takes CIFAR-100)
#   rank       the ten pairs of edges of the last node, Kendall's tau (figures 2.1 and 2.5; the first seed)
set -euo pipefail
experiment=$1 out=$2 run=$3 train=$4 test=$5 seeds=$6
shift 6
inas() { "${INAS:-inas}" -q dots "$@"; }
data=(--run "$run" --data "$train" "$@")
table=$out/table.tsv
mkdir -p "$out"
[ "$experiment" = rank ] || : > "$table"

# Searches into folder $1 with seed $2; the rest are settings.
search() {
    local dir=$1 seed=$2
    shift 2
    [ -e "$dir/result.json" ] && return
    inas search "${data[@]}" --set search.seed="$seed" "$@" --resume -o "$dir" > /dev/null
}

# Trains variant $1 with seed $2: the cells of the search in $3 with edges $4.
train() {
    local variant=$1 seed=$2 dir=$3 edges=$4
    local to=$dir/$variant-$seed
    local cells=$to.json
    inas derive "$dir" --edges "$edges" --seed "$seed" -o "$cells" --svg "$to.svg" > /dev/null
    if [ ! -e "$to/network.safetensors" ]; then
        inas train "$cells" "${data[@]}" --test-data "$test" --set evaluation.seed="$seed" --resume -o "$to" > /dev/null
    fi
    local accuracy
    accuracy=$(tail -n 1 "$to/train.jsonl" | sed 's/.*"test":\([0-9.]*\).*/\1/')
    printf '%s\t%s\t%s\n' "$variant" "$seed" "$accuracy" | tee -a "$table"
}

for seed in $seeds; do
    s=$out/seed-$seed
    case $experiment in
    edges)
        search "$s" "$seed"
        train dots "$seed" "$s" dots
        train darts "$seed" "$s" darts
        for ((i = 0; i < ${RANDOM_EDGES:-5}; i++)); do train random $((100 * seed + i)) "$s" random; done
        ;;
    weights)
        search "$s/pairs" "$seed" --set search.edges=pairs
        for edges in any edge-softmax edge-sigmoid; do
            search "$s/$edges" "$seed" --set search.edges=$edges --operations "$s/pairs/operations.json"
        done
        for edges in edge-softmax pairs edge-sigmoid any; do train "$edges" "$seed" "$s/$edges" dots; done
        ;;
    operations)
        for method in darts-top1 darts-top2 group-v1 group-v2; do
            search "$s/$method" "$seed" --set search.method=$method
            train "$method" "$seed" "$s/$method" dots
        done
        ;;
    methods | case)
        methods="darts-top1 second-order gdas snas pc-darts"
        [ "$experiment" = case ] && methods=darts-top1
        for method in $methods; do
            settings=(--set search.method="$method")
            [ "$method" = second-order ] && settings=(--set search.method=darts-top1 --set search.second_order=true)
            search "$s/$method" "$seed" "${settings[@]}"
            train "$method-own" "$seed" "$s/$method" darts
            train "$method-searched" "$seed" "$s/$method" dots
        done
        ;;
    stability)
        search "$s" "$seed"
        train dots "$seed" "$s" dots
        ;;
    rank)
        search "$s" "$seed"
        inas rank "$s" "${data[@]}" --test-data "$test" -o "$out/rank" | tee "$out/rank.txt"
        exit
        ;;
    *)
        echo "no experiment $experiment" >&2
        exit 2
        ;;
    esac
done
# Deviations are those of the sample.
awk -F '\t' '{ n[$1]++; s[$1] += $3; q[$1] += $3 * $3 }
    END { for (v in n) { m = s[v] / n[v]; d = n[v] > 1 ? sqrt((q[v] - n[v] * m * m) / (n[v] - 1)) : 0
          printf "%-24s %.4f +- %.4f (%d)\n", v, m, d < 0 ? 0 : d, n[v] } }' "$table" | sort
