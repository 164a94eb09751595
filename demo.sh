# The whole way in small: videos are made, sharded and verified; a network learns from them without labels, and is
# compared with one that did not. `sh demo.sh rspnet ascnet prp pace` takes all four methods.
set -eu
METHODS="${*:-rspnet}"
rm -rf demo_run/shards demo_run/runs demo_run/results demo_run/sheet.png
mkdir -p demo_run

step() { printf '\n== %s\n' "$1"; shift; printf '   %s\n' "$*"; "$@"; }

step 'small videos of labelled motion' vprep synth --out demo_run/videos
step 'shards' vprep shard demo_run/videos --out demo_run/shards --shards 4
step 'every byte and every frame' vprep verify demo_run/shards --depth frames
step 'a contact sheet' vprep show demo_run/shards --out demo_run/sheet.png

SET='--shards demo_run/shards'
RESULTS=demo_run/results
mkdir -p "$RESULTS"
step 'retrieval with a network that has learned nothing' \
  veval retrieval --weights random --backbone tiny $SET --out "$RESULTS/retrieval-random.json" frames=8 size=56 clips=4
step 'ten-clip accuracy from scratch' \
  veval finetune --weights random --backbone tiny $SET --run demo_run/runs/scratch --out "$RESULTS/finetune-scratch.json" $TUNE
for method in $METHODS; do
  step "$method: learning without labels" \
    vtrain "$method" --recipe tiny $SET --out "demo_run/runs/$method" $LEARN
  step "$method: retrieval" \
    veval retrieval --weights "demo_run/runs/$method" $SET --out "$RESULTS/retrieval-$method.json" clips=4
  step "$method: ten-clip accuracy" \
    veval finetune --weights "demo_run/runs/$method" $SET --run "demo_run/runs/$method-finetuned" \
    --out "$RESULTS/finetune-$method.json" $TUNE
done
step 'the table' veval report "$RESULTS"
