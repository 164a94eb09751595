# Show that each method learns. Its recipe `tiny` is trained with three seeds and measured by its own task on new videos,
# by retrieval, by a linear layer on the features, and by fine-tuning; so is the same network before training.
#
#   sh benchmarks/learning.sh SHARDS OUT [METHODS] [SEEDS]    SHARDS has splits of fold 1, as UCF101 has
#
# Each job has one thread, and one job runs per processor. OUT/report.md has the tables.
set -eu
SHARDS=$1 OUT=$2 METHODS=${3:-rspnet ascnet prp pace} SEEDS=${4:-0 1 2}
PROCESSORS=$(nproc)  # before OMP_NUM_THREADS is set, which nproc obeys
export OMP_NUM_THREADS=1 SHARDS OUT
mkdir -p "$OUT/runs" "$OUT/results"

cat > "$OUT/job.sh" <<'END'
set -eu
method=$1 seed=$2 run=$OUT/runs/$1-$2
[ -e "$run/last.pt" ] || vtrain "$method" --recipe tiny --shards "$SHARDS" --out "$run" seed="$seed" workers=0 \
  log_every=100 validate.split=test validate.every=1e6 validate.passes=8 --json > "$OUT/results/$method-$seed.train"
for weights in "$run" "random:$run"; do
  case "$weights" in random:*) name=$method-scratch-$seed ;; *) name=$method-$seed ;; esac
  for by in retrieval linear; do
    veval "$by" --weights "$weights" --seed "$seed" --shards "$SHARDS" --workers 0 \
      --features "$OUT/runs/$name.npz" --out "$OUT/results/$by-$name.json" > /dev/null
  done
  veval finetune --weights "$weights" --seed "$seed" --shards "$SHARDS" --workers 0 --into "$OUT/runs/$name-finetuned" \
    --out "$OUT/results/finetune-$name.json" > /dev/null
done
END

for seed in $SEEDS; do
  for method in $METHODS; do echo "$method $seed"; done
done | xargs -P "$PROCESSORS" -L 1 sh "$OUT/job.sh"
veval report "$OUT/results" --markdown > "$OUT/report.md"
cat "$OUT/report.md"
