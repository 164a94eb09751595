"""The whole way: from videos to shards, to weights, to a table."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]
SMALL = ("frames=4", "size=16", "batch=4", "steps=3", "workers=0")


@pytest.mark.slow
def test_from_videos_to_a_table(run: Run, folder: Path, shards: Path) -> None:
    assert {path.name for path in shards.iterdir()} >= {"000.tar", "001.tar", "index.parquet", "dataset.json"}

    trained = run("vtrain", "pace", "--shards", "data_shards", "--recipe", "tiny", *SMALL)
    (weights,) = (folder / "runs").iterdir()
    assert {path.name for path in weights.iterdir()} >= {"recipe.json", "metrics.jsonl", "last.pt", "environment.json"}
    assert f"next: veval retrieval --weights runs/{weights.name}" in trained.stdout

    found = json.loads(run("veval", "retrieval", "--json").stdout)
    assert found["weights"]["path"] == f"runs/{weights.name}/last.pt"
    assert found["queries"] + found["gallery"] == 16
    tuning = ("batch=4", "steps=3", "workers=0")
    pre = json.loads(run("veval", "finetune", *tuning, "--json").stdout)
    scratch = ("--weights", "random", "--backbone", "tiny", "frames=4", "size=16")
    random = json.loads(run("veval", "finetune", *scratch, *tuning, "--json").stdout)

    rows = list(csv.DictReader(run("veval", "report", "--csv").stdout.splitlines()))
    assert [row["metric"] for row in rows if row["task"] == "retrieval"] == [f"top{k}" for k in (1, 5, 10, 20, 50)]
    tuned = {row["method"]: row for row in rows if row["task"] == "finetune"}
    for method, result in (("Pace", pre), ("scratch", random)):
        found = [float(tuned[method][name]) for name in ("value", "low", "high")]
        assert found == pytest.approx([result["top1"], *result["intervals"]["top1"]], abs=1e-5)
    gain = tuned["Pace"]
    assert float(gain["gain"]) == pytest.approx(pre["top1"] - random["top1"], abs=1e-5)
    assert (float(gain["scratch"]), gain["gain_low"] != "") == (pytest.approx(random["top1"], abs=1e-5), True)
    shown = run("veval", "report").stdout
    assert "gain from pre-training" in shown
    assert f"{pre['top1'] - random['top1']:+.2f}  [" in shown


@pytest.mark.slow
def test_two_processes_make_one_run_and_one_result(run: Run, folder: Path, shards: Path) -> None:
    before = set(folder.glob("runs/pace-*")), set(folder.glob("results/*"))
    done = run("vtrain", "pace", "--shards", "data_shards", "--recipe", "tiny", *SMALL, "log_every=1", processes=2)
    (made,) = set(folder.glob("runs/pace-*")) - before[0]
    steps = [json.loads(line)["step"] for line in (made / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    assert f"{made.name}: 3 steps of pace-tiny" in done.stdout

    words = ("finetune", "--weights", made, "--into", "tuned", "batch=4", "steps=3", "--folds", "1,2", "--json")
    found = json.loads(run("veval", *words, "--workers", 0, processes=2).stdout)
    assert [one["data"]["fold"] for one in found["folds"]] == [1, 2]
    assert len(set(folder.glob("results/*")) - before[1]) == 2
    assert {path.name for path in folder.glob("tuned*")} == {"tuned-fold1", "tuned-fold2"}
