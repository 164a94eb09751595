"""The doctor: each thing that training rests on, tried on this machine; and how what was found is judged."""

import json
import resource
import signal
from collections.abc import Callable
from importlib import metadata

import pytest
import torch
from rich.console import Console

from vprep.checks import Check, as_table
from vprep.errors import UsageError
from vtrain import doctor

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
H200 = {"name": "NVIDIA H200", "memory": 150e9, "capability": "9.0"}


@pytest.fixture(scope="module")
def found() -> list[Check]:
    return doctor.run_checks()


def test_nothing_fails_on_a_machine_where_the_tests_run(found: list[Check]) -> None:
    assert [check for check in found if check.ok is False] == []


def test_every_check_that_training_rests_on_is_made_once(found: list[Check]) -> None:
    names = [check.name for check in found]
    assert len(set(names)) == len(names)
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    wanted = {"torch", "packages", "open files", "cuda"}
    wanted |= {f"{what} on {device}" for what in ("bf16", "channels_last_3d", "batch norm")}
    assert wanted | {"bf16 gradients on a CPU", "convolutions on a CPU", "distributed", "onnxscript"} <= set(names)


def test_the_table_has_every_check_with_its_advice(found: list[Check]) -> None:
    console = Console(width=400)
    with console.capture() as seen:
        console.print(as_table(found))
    for check in found:
        assert check.found in seen.get()
        assert check.advice in seen.get()


def test_a_line_begins_with_how_bad_it_is() -> None:
    checks = [Check(str(ok), ok, "[it]") for ok in (True, None, False)]
    console = Console(width=60)
    with console.capture() as seen:
        console.print(as_table(checks))
    lines = [line.split() for line in seen.get().splitlines()]
    assert lines == [["ok", "True", "[it]"], ["note", "None", "[it]"], ["fails", "False", "[it]"]]


def test_the_random_numbers_of_others_are_left_alone() -> None:
    before = torch.get_rng_state()
    doctor.convolutions(CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("version", ["2.10.0", "2.10.0a0+git1234", "2.13.0+cpu", "3.0"])
def test_a_torch_that_trains_well_is_taken(version: str) -> None:
    doctor.refuse_bad_torch(version)
    assert doctor.torch_version(version) == Check("torch", True, version)


@pytest.mark.parametrize("version", ["2.9.0", "2.9.1+cu128"])
def test_torch_2_9_is_refused_for_its_slow_convolutions(version: str) -> None:
    with pytest.raises(UsageError) as refused:
        doctor.refuse_bad_torch(version)
    why = "turns cuDNN off for half-precision conv3d, so that it takes 4 times as long and 3 to 17 times the memory"
    assert str(refused.value) == f"torch is {version}, which {why}; pip install 'torch>=2.10'"
    assert doctor.torch_version(version) == Check(
        "torch", False, f"{version}, which {why}", "pip install 'torch>=2.10'"
    )


@pytest.mark.parametrize("version", ["1.13.1", "2.8.0+cu126", "unknown"])
def test_an_older_torch_is_refused(version: str) -> None:
    with pytest.raises(UsageError) as refused:
        doctor.refuse_bad_torch(version)
    assert str(refused.value) == f"torch is {version}, and 2.10 or later is needed; pip install 'torch>=2.10'"


def test_packages_that_are_old_or_missing_are_named_with_how_to_get_them() -> None:
    numpy, rich = metadata.version("numpy"), metadata.version("rich")
    required = ["torch>=99", "numpy>=99", "rich>=13.7", "no-such-package>=1", "onnxruntime>=99; extra == 'onnx'"]
    found = f"numpy {numpy}, rich {rich}, no-such-package not installed"
    advice = "pip install 'numpy>=99' 'no-such-package>=1'"
    assert doctor.packages(required) == Check("packages", False, found, advice)
    assert doctor.packages(["rich>=13.7"]) == Check("packages", True, f"rich {rich}")


def test_threads_that_do_not_sleep_while_they_wait_are_noted() -> None:
    advice = "waiting threads keep processors busy that the loader's workers need: export OMP_WAIT_POLICY=PASSIVE"
    assert doctor.wait_policy("passive") == Check("OMP_WAIT_POLICY", True, "PASSIVE")
    assert doctor.wait_policy("ACTIVE") == Check("OMP_WAIT_POLICY", None, "ACTIVE", advice)
    assert doctor.wait_policy(None) == Check("OMP_WAIT_POLICY", None, "not set", advice)


def test_few_open_files_are_noted() -> None:
    assert doctor.open_files(256) == Check("open files", None, "256 at once", "ulimit -n 4096 allows more")
    assert doctor.open_files(1024) == Check("open files", True, "1024 at once")
    assert doctor.open_files(resource.RLIM_INFINITY) == Check("open files", True, "unlimited")


def test_gpus_are_named_and_none_is_no_failure() -> None:
    assert doctor.cuda([H200], "13.0") == Check("cuda", True, "13.0: NVIDIA H200 (150 GB, capability 9.0)")
    without, unseen = doctor.cuda([], None), doctor.cuda([], "13.0")
    assert (without.ok, without.found) == (None, "torch is built without it")
    assert (unseen.ok, unseen.found) == (None, "torch is built for 13.0 and sees no GPU")


def test_a_gpu_without_cudnn_fails() -> None:
    assert doctor.cudnn(None).ok is False
    assert doctor.cudnn(91501) == Check("cudnn", True, "91501")


def test_bf16_that_is_not_faster_on_a_gpu_is_noted_and_wrong_numbers_fail() -> None:
    assert doctor.bf16(GPU, 0.010, 0.004, 0.003) == Check("bf16 on cuda:0", True, "conv3d in 4.0 ms, 10.0 in float32")
    slow = doctor.bf16(GPU, 0.010, 0.0101, 0.003)
    assert (slow.ok, slow.found) == (None, "conv3d in 10.1 ms, 10.0 in float32")
    assert slow.advice.startswith("it should be faster: use cuDNN 9.15 or later")
    wrong = doctor.bf16(GPU, 0.010, 0.004, float("inf"))
    assert (wrong.ok, wrong.found) == (False, "conv3d in 4.0 ms, 10.0 in float32, inf off")


def test_bf16_on_a_cpu_never_fails_for_it_is_not_trained_with() -> None:
    assert doctor.bf16(CPU, 0.010, 0.020, 0.003).ok is True
    assert doctor.bf16(CPU, 0.010, 0.020, float("inf")).ok is None


def test_a_layout_that_changes_the_numbers_fails() -> None:
    assert doctor.channels_last(GPU, 1e-6, True) == Check("channels_last_3d on cuda:0", True, "kept by conv3d")
    assert doctor.channels_last(CPU, 1e-6, False).ok is True
    assert doctor.channels_last(GPU, 0.5, True).found == "float32 is 0.5 off"
    assert doctor.channels_last(GPU, float("inf"), True).ok is False


def test_batch_norm_that_is_inexact_in_channels_last_fails() -> None:
    mended = doctor.batch_norm("cpu", 3e-7, 4e-4)
    assert mended == Check("batch norm on cpu", True, "3e-07 off in channels-last, torch's own 0.0004")
    assert doctor.batch_norm("cuda:0", 3e-7, 3e-7) == Check("batch norm on cuda:0", True, "3e-07 off in channels-last")
    advice = "its statistics and gradients are inexact: use another version of torch"
    assert doctor.batch_norm("cuda:0", 2e-5, 2e-5) == Check(
        "batch norm on cuda:0", False, "2e-05 off in channels-last", advice
    )
    assert doctor.batch_norm("cpu", float("inf"), 0.0).ok is False


def test_the_batch_norm_that_trains_on_this_machine_is_exact(found: list[Check]) -> None:
    check = next(check for check in found if check.name.startswith("batch norm on "))
    assert check.ok is True


def test_a_device_that_cannot_hold_the_trial_fails_with_what_torch_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.SHAPES, "cpu", (2**20, 64, 2**10, 28, 28))
    (check,) = doctor.convolutions(CPU)
    assert (check.name, check.ok) == ("conv3d on cpu", False)
    assert "allocate" in check.found


def test_nan_in_bf16_gradients_is_why_a_cpu_trains_in_float32() -> None:
    why = "not finite in 58 of 400 runs of a conv3d on maps of 2x7x7; so training on a CPU uses float32"
    assert doctor.bf16_on_small_maps(58, 400) == Check("bf16 gradients on a CPU", None, why)
    assert doctor.bf16_on_small_maps(0, 7) == Check("bf16 gradients on a CPU", True, "finite in 7 runs")


@pytest.mark.parametrize(
    ("code", "last", "found"),
    [
        (0, "wrong", "their gradients are wrong"),
        (-signal.SIGSEGV, "", "their gradients end the process (SIGSEGV)"),
        (None, "", "their gradients took more than 30 s"),
    ],
)
def test_a_cpu_whose_convolutions_are_wrong_fails_where_it_would_train(code: int | None, last: str, found: str) -> None:
    check = doctor.cpu_convolutions(code, last, trains=True)
    assert (check.ok, check.found) == (False, found)
    assert check.advice == "use another version of torch, or train on a GPU"
    assert doctor.cpu_convolutions(code, last, trains=False).ok is None


def test_correct_convolutions_pass_and_a_test_program_that_fails_is_a_note() -> None:
    assert doctor.cpu_convolutions(0, "correct", trains=True) == Check(
        "convolutions on a CPU", True, "their gradients are correct"
    )
    failed = doctor.cpu_convolutions(1, "ImportError: no torch", trains=True)
    assert (failed.ok, failed.found) == (None, "the test program failed: ImportError: no torch")


def test_the_convolutions_of_this_cpu_are_correct(found: list[Check]) -> None:
    check = next(check for check in found if check.name == "convolutions on a CPU")
    assert (check.ok, check.found) == (True, "their gradients are correct")


def test_several_gpus_want_nccl_and_a_cpu_gloo() -> None:
    assert doctor.distributed(["gloo", "nccl"], 8) == Check("distributed", True, "gloo, nccl")
    assert doctor.distributed(["gloo"], 0) == Check("distributed", True, "gloo")
    advice = "torchrun needs nccl here: use another build of torch"
    assert doctor.distributed(["gloo"], 8) == Check("distributed", None, "gloo", advice)
    assert doctor.distributed([], 0).found == "none"


def test_an_extra_that_is_not_there_is_a_note_with_what_it_is_for() -> None:
    assert doctor.optional("onnxruntime", "1.22.0") == Check("onnxruntime", True, "1.22.0")
    advice = "vtrain export --out x.onnx needs it: pip install 'playspeed[onnx]'"
    assert doctor.optional("onnxruntime", None) == Check("onnxruntime", None, "not installed", advice)


def test_the_command_prints_the_checks_and_the_environment_as_one_json_object(
    command: Callable[..., tuple[int, str, str]],
) -> None:
    code, stdout, _ = command("doctor", "--json")
    found = json.loads(stdout)
    assert (code, found["ok"]) == (0, True)
    assert found["environment"]["versions"]["torch"] == torch.__version__
