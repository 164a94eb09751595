"""The networks: their size, the shape of their maps, what they look at; and that speed does not change results."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vprep.errors import UsageError
from vtrain.backbones import BACKBONES, Backbone, backbone
from vtrain.backbones.conv import Conv3d, use_kernels
from vtrain.backbones.s3dg import SamePool
from vtrain.backbones.tsm import Shift
from vtrain.methods.prp.decoder import Decoder, RateHead

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]
NARROW: dict[str, dict[str, Any]] = {
    name: {"width": 16} if "width" in inspect.signature(build).parameters else {}
    for name, build in BACKBONES.items()
    if name != "resnet3d34"
}


def narrow(name: str) -> Backbone:
    """The network with fewer channels where that is a setting, the same at every call."""
    torch.manual_seed(3)
    return backbone(name, **NARROW[name]).eval()


def clips(batch: int = 2, frames: int = 8, size: int = 64) -> Tensor:
    return torch.rand(batch, 3, frames, size, size, generator=torch.Generator().manual_seed(5))


def difference(found: Tensor, wanted: Tensor) -> float:
    return ((found.to(wanted.dtype) - wanted).norm() / wanted.norm()).item()


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "settings", "parameters"),
    [
        ("c3d", {}, 27_661_440),
        ("r3d", {}, 14_361_792),
        ("r3d", {"blocks": (2, 2, 2, 2)}, 33_166_272),
        ("r3d18", {}, 33_166_272),
        ("r2plus1d", {}, 14_365_303),
        ("r2plus1d", {"blocks": (2, 2, 2, 2)}, 33_178_423),
        ("r2plus1d18", {}, 31_300_125),
        ("resnet3d18", {}, 33_203_904),
        ("resnet3d34", {}, 63_513_536),
        ("s3dg", {}, 8_675_744),
        ("s3dg", {"gates": "none"}, 7_910_048),
        ("s3dg_pace", {}, 9_125_072),
        ("s3d", {}, 7_910_048),
        ("tsm18", {}, 11_176_512),
        ("tiny", {}, 903_984),
    ],
)
def test_a_backbone_has_as_many_parameters_as_the_published_one(
    name: str, settings: dict[str, Any], parameters: int
) -> None:
    with torch.device("meta"):
        assert count(backbone(name, **settings)) == parameters


def test_the_heads_of_prp_have_as_many_parameters_as_the_authors() -> None:
    with torch.device("meta"):
        decoder, rates = Decoder(), RateHead()
    assert count(decoder) - count(decoder.conv6) == 7_437_641
    assert count(decoder.conv6) == count(rates.conv6) == 7_079_424
    assert count(rates.fc) == 2_052


R3D = [[64, 16, 56, 56], [64, 16, 56, 56], [128, 8, 28, 28], [256, 4, 14, 14], [512, 2, 7, 7]]
S3D = [[64, 8, 112, 112], [192, 8, 56, 56], [480, 8, 28, 28], [832, 4, 14, 14], [1024, 2, 7, 7]]
HARA = [[64, 16, 56, 56], [64, 8, 28, 28], [128, 4, 14, 14], [256, 2, 7, 7], [512, 1, 4, 4]]
SHAPES = {
    "c3d": [[64, 16, 112, 112], [128, 16, 56, 56], [256, 8, 28, 28], [512, 4, 14, 14], [512, 2, 7, 7]],
    **dict.fromkeys(("r3d", "r2plus1d", "r3d18", "r2plus1d18"), R3D),
    **dict.fromkeys(("resnet3d18", "resnet3d34"), HARA),
    **dict.fromkeys(("s3dg", "s3dg_pace", "s3d"), S3D),
    "tsm18": [[64, 16, 56, 56], [64, 16, 28, 28], [128, 16, 14, 14], [256, 16, 7, 7], [512, 16, 4, 4]],
    "tiny": [[16, 16, 56, 56], [16, 16, 56, 56], [32, 8, 28, 28], [64, 4, 14, 14], [128, 2, 7, 7]],
}


@pytest.mark.parametrize("name", BACKBONES)
def test_the_maps_of_sixteen_frames_have_the_published_shapes(name: str) -> None:
    side = 224 if SHAPES[name] is S3D else 112
    with torch.device("meta"):
        net = backbone(name)
        maps = net.maps(torch.empty(2, 3, 16, side, side))
    assert [list(x.shape[1:]) for x in maps.values()] == SHAPES[name]
    assert list(maps) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert net.dim == SHAPES[name][-1][0]


@pytest.mark.parametrize("name", ["s3dg", "s3dg_pace", "s3d"])
def test_an_s3d_makes_eight_steps_of_sixty_four_frames(name: str) -> None:
    with torch.device("meta"):
        assert backbone(name)(torch.empty(1, 3, 64, 224, 224)).shape == (1, 1024, 8, 7, 7)


def test_a_hara_resnet_has_one_step_of_time_for_eight_frames_too() -> None:
    with torch.device("meta"):
        assert backbone("resnet3d18")(torch.empty(1, 3, 8, 112, 112)).shape == (1, 512, 1, 4, 4)


def test_the_decoder_rebuilds_the_clip_at_the_slower_pace() -> None:
    with torch.device("meta"):
        assert Decoder()(torch.empty(1, 512, 2, 7, 7)).shape == (1, 3, 32, 112, 112)
        assert Decoder(128, slower=4)(torch.empty(1, 128, 1, 4, 4)).shape == (1, 3, 32, 64, 64)
        assert RateHead(128, rates=3)(torch.empty(5, 128, 1, 4, 4)).shape == (5, 3)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("r3d_18", {}, "no backbone 'r3d_18'; did you mean 'r3d18'? there are c3d, r3d, r2plus1d, resnet3d18, "
         "resnet3d34, r3d18, r2plus1d18, s3dg, s3dg_pace, s3d, tsm18, tiny, or module:name for one of your own"),
        ("c3d", {"depth": 3}, "backbone 'c3d' has no setting 'depth'; it has width"),
        ("s3d", {"width": 3}, "backbone 's3d' has no setting 'width'; it has none"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_setting_says_what_there_is(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        backbone(name, **settings)
    assert str(error.value) == message


@pytest.mark.parametrize("name", NARROW)
def test_calling_a_backbone_gives_the_last_of_its_maps(name: str) -> None:
    net = narrow(name)
    with torch.no_grad():
        maps = net.maps(clips())
        # A map that a later stage had written into would not come out of the stages up to it again.
        first = dict(net.named_children())["conv1"](clips())
        assert torch.equal(net(clips()), maps["conv5"])
    assert torch.equal(first, maps["conv1"])


@pytest.mark.parametrize("name", NARROW)
def test_every_parameter_of_a_backbone_learns(name: str) -> None:
    net = narrow(name).train()
    net(clips()).square().mean().backward()
    gradients = {key: parameter.grad for key, parameter in net.named_parameters()}
    assert [key for key, grad in gradients.items() if grad is None or not grad.isfinite().all()] == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"),
    [
        ((1, 3, 3), (1, 1, 1), (0, 1, 1)),
        ((1, 7, 7), (1, 2, 2), (0, 3, 3)),
        ((1, 7, 7), (2, 2, 2), (0, 3, 3)),
        ((3, 1, 1), (1, 1, 1), (1, 0, 0)),
        ((7, 1, 1), (2, 1, 1), (3, 0, 0)),
        ((3, 1, 1), (1, 2, 2), (1, 0, 0)),
        ((1, 1, 1), (2, 2, 2), (0, 0, 0)),
        ((1, 1, 1), (1, 1, 1), (0, 0, 0)),
        ((1, 1, 1), (2, 1, 1), (0, 0, 0)),
        ((3, 3, 3), (1, 1, 1), (1, 1, 1)),
    ],
)
def test_a_convolution_through_2d_kernels_is_the_same_forward_and_backward(
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    pad: tuple[int, int, int],
    layout: torch.memory_format,
) -> None:
    conv = Conv3d(6, 8, kernel, stride, pad)
    # 5 to 7 frames are those that oneDNN's own kernel of S3D's stem computes wrongly. It has none for float64.
    for frames in (8, 5):
        x = torch.randn(2, 6, frames, 12, 10, generator=torch.Generator().manual_seed(1))
        leaves = [each.detach().double().requires_grad_() for each in (x, *conv.parameters())]
        wanted = nn.functional.conv3d(*leaves, stride, pad)
        wanted_all = [wanted, *torch.autograd.grad(wanted.square().sum(), leaves)]
        for kernels in ("3d", "2d"):
            use_kernels(conv.to(memory_format=layout), kernels)  # type: ignore[call-overload]
            x = x.detach().contiguous(memory_format=layout).requires_grad_()
            y = conv(x)
            found = [y, *torch.autograd.grad(y.square().sum(), [x, *conv.parameters()])]
            for ours, right in zip(found, wanted_all, strict=True):
                assert ours.shape == right.shape
                assert difference(ours, right) < 1e-5


@pytest.mark.parametrize("name", NARROW)
def test_layouts_and_kernels_do_not_change_what_a_backbone_computes(name: str) -> None:
    net, x = narrow(name), clips()
    found = []
    with torch.no_grad():
        for layout in LAYOUTS:
            net.to(memory_format=layout)  # type: ignore[call-overload]
            for kernels in ("3d", "2d"):
                use_kernels(net, kernels)
                found.append(net(x.contiguous(memory_format=layout)))
    assert max(difference(y, found[0]) for y in found) < 1e-5


@pytest.mark.parametrize("name", NARROW)
def test_bf16_agrees_with_fp32_within_three_percent(name: str) -> None:
    """Measured at full width: 0.2 % (C3D) to 1.2 % (S3D) of the norm of the last map."""
    net, x = narrow(name), clips()
    with torch.no_grad():
        wanted = net(x)
        assert difference(net.to(torch.bfloat16)(x.to(torch.bfloat16)), wanted) < 0.03


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("r2plus1d", "s3dg_pace")), "tsm18"]
)
def test_a_backbone_compiles_to_one_graph_that_computes_the_same(name: str) -> None:
    net = narrow(name).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    x = clips().contiguous(memory_format=torch.channels_last_3d)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert difference(compiled(x), net(x)) < 1e-5


@pytest.mark.parametrize("name", NARROW)
def test_no_stage_leaves_channels_last(name: str) -> None:
    net = narrow(name).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    x = clips().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    maps = net.maps(x)
    (gradient,) = torch.autograd.grad(maps["conv5"].square().mean(), [x])
    for each in (*maps.values(), gradient):
        assert each.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(("name", "shortcuts"), [("r2plus1d", 6), ("r2plus1d18", 3), ("s3d", 0), ("resnet3d18", 3)])
def test_a_forward_pass_copies_only_what_a_strided_shortcut_keeps(name: str, shortcuts: int) -> None:
    net = narrow(name).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    x = clips().contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad(), torch.autograd.profiler.profile() as profile:
        net(x)
    copies = sum(event.count for event in profile.key_averages() if event.key == "aten::copy_")
    assert copies == shortcuts


@pytest.mark.parametrize("name", ["r2plus1d", "s3dg", "tsm18"])
def test_2d_kernels_take_as_many_multiplications(name: str) -> None:
    counts = []
    for kernels in ("3d", "2d"):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            net = backbone(name)
            use_kernels(net, kernels)
            net(torch.empty(1, 3, 16, 112, 112))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 1e9


def test_the_shift_brings_channels_from_the_neighbouring_frames() -> None:
    x = torch.arange(1.0, 5.0)[None, None, :, None, None].expand(1, 16, 4, 1, 1)
    shifted = Shift()(x)[0, :, :, 0, 0].tolist()
    assert shifted[:2] == [[2, 3, 4, 0]] * 2  # from the next frame
    assert shifted[2:4] == [[0, 1, 2, 3]] * 2  # from the one before
    assert shifted[4:] == [[1, 2, 3, 4]] * 12


def test_a_tsm_without_its_shift_sees_each_frame_as_a_picture_of_its_own() -> None:
    net = narrow("tsm18")
    for module in net.modules():
        if "shift" in dict(module.named_children()):
            module.shift = nn.Identity()
    x = clips(frames=4)
    with torch.no_grad():
        together = net(x)
        apart = torch.cat([net(x[:, :, t : t + 1]) for t in range(4)], dim=2)
    assert difference(together, apart) < 1e-5


@pytest.mark.parametrize(("name", "same"), [("s3dg", True), ("s3d", False), ("s3dg_pace", False)])
def test_only_rspnets_s3dg_never_reads_every_second_frame(name: str, same: bool) -> None:
    net, x = narrow(name), clips()
    other = x.clone()
    other[:, :, 1::2] = 0
    with torch.no_grad():
        assert torch.equal(net(x), net(other)) is same


@pytest.mark.parametrize("sides", [(8, 56, 56), (7, 9, 13), (1, 5, 4), (2, 3, 7)])
def test_the_pool_of_tensorflow_pads_the_far_side_with_zeros(sides: tuple[int, int, int]) -> None:
    x = torch.rand(1, 2, *sides)
    for size, stride in (((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2))):
        far = [max(k - s, 0) for k, s in zip(size, stride, strict=True)]
        padded = nn.functional.pad(x, [0, far[2], 0, far[1], 0, far[0]])
        wanted = nn.functional.max_pool3d(padded, size, stride, ceil_mode=True)
        assert torch.equal(SamePool(size, stride)(x), wanted)
