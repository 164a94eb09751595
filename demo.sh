# The main job in small: videos are made, sharded, verified, shown, and loaded.
set -eu
rm -rf demo_run/shards demo_run/sheet.png
echo '== small videos of labelled motion: vprep synth --out demo_run/videos'
vprep synth --out demo_run/videos
echo '== what would happen: vprep plan demo_run/videos --sample 16'
vprep plan demo_run/videos --sample 16
echo '== shards: vprep shard demo_run/videos --out demo_run/shards --shards 4'
vprep shard demo_run/videos --out demo_run/shards --shards 4
echo '== every byte and every frame: vprep verify demo_run/shards --depth frames'
vprep verify demo_run/shards --depth frames
echo '== what is in it: vprep stats demo_run/shards'
vprep stats demo_run/shards
echo '== a contact sheet: vprep show demo_run/shards --out demo_run/sheet.png'
vprep show demo_run/shards --out demo_run/sheet.png
echo '== from shards to clips: vtrain bench loader --shards demo_run/shards --method ascnet --seconds 1'
vtrain bench loader --shards demo_run/shards --method ascnet --seconds 1
cat <<'END'

Made: demo_run/videos (small mp4 files), demo_run/shards (a set in 4 shards, verified), demo_run/sheet.png (look at it).
Next, on your own videos (.venv/bin/vprep, or activate .venv):
    vprep plan  VIDEOS                       what is there, how much disk and time it takes
    vprep shard VIDEOS --out data_shards/    run it again to go on after a stop
    vprep verify data_shards/
    vtrain bench loader --shards data_shards/
END
