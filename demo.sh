# The whole way on small videos: they are made, sharded and verified; a network learns from them without labels, and is
# compared with the same network from random weights, in a table and on a page of pictures.
# `sh demo.sh rspnet ascnet prp pace` takes all four methods.
set -eu
METHODS="${*:-pace}"
LEARN=steps=600 TUNE=steps=100  # minutes on two processors
RUNS=demo_run/runs RESULTS=demo_run/results PAGE=demo_run/page.html
rm -rf demo_run/shards demo_run/sheet.png demo_run/features-*.parquet "$PAGE" "$RUNS" "$RESULTS"
mkdir -p "$RESULTS"

step() { # a title, and the command
  printf '\n== %s\n   ' "$1"
  shift
  echo "$@"
  "$@"
}

step 'small videos of labelled motion' vprep synth --out demo_run/videos
step 'shards' vprep shard demo_run/videos --out demo_run/shards --shards 4
step 'check of every byte and every frame' vprep verify demo_run/shards --depth frames
step 'a contact sheet' vprep show demo_run/shards --out demo_run/sheet.png
for method in $METHODS; do
  step "$method learns without labels" \
    vtrain "$method" --recipe tiny --shards demo_run/shards --out "$RUNS/$method" $LEARN
  for weights in "$RUNS/$method" "random:$RUNS/$method"; do
    case "$weights" in random:*) name="$method-scratch" ;; *) name="$method" ;; esac
    step "retrieval, $name" \
      veval retrieval --weights "$weights" --shards demo_run/shards --features "demo_run/features-$name.parquet" \
      --out "$RESULTS/retrieval-$name.json" clips=4
    step "fine-tuning on labels and ten-clip accuracy, $name" \
      veval finetune --weights "$weights" --shards demo_run/shards --into "$RUNS/$name-finetuned" \
      --out "$RESULTS/finetune-$name.json" $TUNE
  done
done
step 'the table' veval report "$RESULTS"
step 'the page' veval report "$RESULTS" --html "$PAGE" --features "demo_run/features-${METHODS%% *}.parquet"
cat <<'END'

The last table says what pre-training was worth here; on so few and such simple videos that may be little.
Open demo_run/page.html in a browser (its full address stands above): one file, which needs no network. It shows the
tables, each query with its neighbours as moving pictures, a map of the features, the classes and the curves.
Written: demo_run/shards (a verified set), demo_run/runs (weights, metrics), demo_run/results (numbers), sheet.png,
page.html.
Next, on your own videos (.venv/bin/..., or activate .venv):
    vprep plan  VIDEOS                       what is there, how much disk and time it takes
    vprep shard VIDEOS --out data_shards/    run it again to continue after a stop
    vtrain recipes                           all configurations; --recipe tiny for a laptop
    vtrain rspnet                            training on data_shards/; --resume continues it
    veval retrieval; veval finetune; veval report --html page.html
END
