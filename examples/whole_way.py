"""All steps on videos that the script makes itself: shards, clips, learning without labels, and evaluation.

    python examples/whole_way.py FOLDER [STEPS]    # about three minutes on two processors, with 400 steps

Each part stands by itself after a line of `# %%`, which notebooks and editors show as a cell.
"""

# %% A folder to work in, and a way to run the three commands
import os
import subprocess
import sys
from pathlib import Path

folder, steps = Path(sys.argv[1]), int((*sys.argv[2:], 400)[0])
folder.mkdir(parents=True, exist_ok=True)
os.chdir(folder)


def command(*words: str) -> None:
    """Run vprep, vtrain or veval, and show what it prints."""
    print("\n$", *words, flush=True)
    module = "vprep.cli" if words[0] == "vprep" else words[0]
    done = subprocess.run([sys.executable, "-m", module, *words[1:]], stdout=subprocess.PIPE, text=True)
    print(done.stdout.strip(), flush=True)
    done.check_returncode()


def main() -> None:
    # %% Videos: eight classes, each a kind of motion, 20 videos of each
    command("vprep", "synth", "--out", "videos")

    # %% Shards: make them, then check every frame
    command("vprep", "shard", "videos", "--out", "shards", "--shards", "4")
    command("vprep", "verify", "shards", "--depth", "frames")

    # %% Clips in Python: the loader gives stored pixels, and the augmentation turns them into a network's input
    from vtrain.data import open_shards
    from vtrain.data.augment import Augment
    from vtrain.methods import pace

    plan = pace.Sampling(frames=8, clips=2)
    augment = Augment(plan.looks)
    loader = open_shards("shards", plan, batch=4, split="train", epochs=1)
    batch = next(iter(loader))
    print("\nstored clips", tuple(batch.clips.shape), batch.clips.dtype, "of", ", ".join(batch.keys))
    print("paces to predict", batch.targets["pace"].tolist())
    print("a network sees", tuple(augment(batch.clips, batch.augmentation).shape))
    print("to go on from here: position =", loader.position)
    del batch, loader

    # %% Learning without labels: which of four paces is a clip played at?
    command("vtrain", "pace", "--recipe", "tiny", "--shards", "shards", "--out", "runs/pace", f"steps={steps}")

    # %% What has it learned? Videos of the same motion should be neighbours; compare with the network before training
    for weights in ("runs/pace", "random:runs/pace"):
        command("veval", "retrieval", "--weights", weights, "--shards", "shards", "clips=4")

    # %% With labels: the network that has learned, and the same from scratch
    for weights, run in (("runs/pace", "runs/tuned"), ("random:runs/pace", "runs/scratch")):
        words = ("--weights", weights, "--shards", "shards", "--into", run, f"steps={steps // 4}")
        command("veval", "finetune", *words)

    # %% The table
    command("veval", "report")

    # %% The backbone for use elsewhere, and back in Python
    command("vtrain", "export", "runs/pace", "--out", "pace.safetensors")
    import torch

    import vtrain

    net, info = vtrain.load_backbone("pace.safetensors")
    clip = info.clip or [8, 40, 40]
    maps = net(torch.rand(1, 3, *clip))
    print("\nbackbone", info.backbone, "gives a map", tuple(maps.shape), "of a clip", tuple(clip))


if __name__ == "__main__":
    main()
