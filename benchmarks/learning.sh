# Do they learn? Each method by its recipe `tiny`, with three seeds: its own task on videos it has not seen, retrieval,
# a linear layer on what the network sees, and fine-tuning; all of it also for the same network before it has learned.
#
#   sh benchmarks/learning.sh SHARDS OUT [METHODS] [SEEDS]    SHARDS has splits of fold 1, as UCF101 has
#
# Each job has one thread, and as many jobs as there are processors run at once. OUT/report.md has the tables.
set -eu
SHARDS=$1 OUT=$2 METHODS=${3:-rspnet ascnet prp pace} SEEDS=${4:-0 1 2}
PROCESSORS=$(nproc)  # which heeds what comes next
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
