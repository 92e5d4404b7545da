#!/usr/bin/env bash
#SBATCH --job-name=inas-search
#SBATCH --array=0-7
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=%x-%A-%a.log
#
# A search over the tasks of a Slurm array. All nodes see the same folder. A task that is requeued goes on where it was:
# whatever was evaluated is in OUT/cache.
#
#     export SUPERNET=run/supernet.safetensors PROFILE=my-profile TRAIN=DUTS-TR.lst VAL=val.lst OUT=my-search
#     id=$(sbatch --parsable scripts/cluster/slurm-array.sh --population 1000)
#     sbatch --dependency=afterok:$id --wrap "inas search merge $OUT"
#
# Arguments are those of `inas search`. The tasks wait for each other after each generation, so all of them must run at
# the same time; a task that waits in vain ends with an error after --shard-wait seconds and may be requeued.
set -euo pipefail
: "${SUPERNET:?}" "${PROFILE:?}" "${TRAIN:?}" "${VAL:?}" "${OUT:?}"

exec inas --quiet search --supernet "$SUPERNET" --profile "$PROFILE" --train-data "$TRAIN" --val-data "$VAL" -o "$OUT" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --jobs "${SLURM_CPUS_PER_TASK:-1}" "$@"
