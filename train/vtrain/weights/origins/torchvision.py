"""torchvision.models.video: r3d_18, r2plus1d_18 and s3d, supervised on Kinetics-400."""

from vtrain.weights.origins.origin import Normalisation, Origin, Renames

LAYERS: Renames = (
    *((rf"^layer{layer}\.", f"conv{layer + 1}.") for layer in (1, 2, 3, 4)),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.bn."),
    (r"\.conv([12])\.1\.", r".bn\1."),
)
R3D18: Renames = (
    (r"^stem\.0\.", "conv1.conv."),
    (r"^stem\.1\.", "conv1.bn."),
    *LAYERS,
    (r"\.conv([12])\.0\.", r".conv\1."),
)
R2PLUS1D18: Renames = (
    (r"^stem\.0\.", "conv1.conv.spatial."),
    (r"^stem\.1\.", "conv1.conv.bn."),
    (r"^stem\.3\.", "conv1.conv.temporal."),
    (r"^stem\.4\.", "conv1.bn."),
    *LAYERS,
    (r"\.conv([12])\.0\.0\.", r".conv\1.spatial."),
    (r"\.conv([12])\.0\.1\.", r".conv\1.bn."),
    (r"\.conv([12])\.0\.3\.", r".conv\1.temporal."),
)
STAGES = {0: "conv1", 2: "conv2.b", 3: "conv2.c", 5: "conv3.b", 6: "conv3.c", 14: "conv5.b", 15: "conv5.c"}
STAGES |= {8 + number: f"conv4.{letter}" for number, letter in enumerate("bcdef")}
S3D: Renames = (
    *((rf"^features\.{number}\.", f"{stage}.") for number, stage in STAGES.items()),
    (r"^(conv1|conv2\.c)\.0\.", r"\1.spatial."),
    (r"^(conv1|conv2\.c)\.1\.", r"\1.temporal."),
    (r"\.branch0\.", ".branch0.point."),
    (r"\.branch3\.1\.", ".branch3.point."),
    (r"\.branch([12])\.0\.", r".branch\1.reduce."),
    (r"\.branch([12])\.1\.0\.", r".branch\1.separable.spatial."),
    (r"\.branch([12])\.1\.1\.", r".branch\1.separable.temporal."),
    (r"\.0\.(\w+)$", r".conv.\1"),
    (r"\.1\.(\w+)$", r".bn.\1"),
)

TORCHVISION = Origin(
    name="torchvision",
    prefix=r"(?:module\.)?",
    skipped=("fc", "classifier"),
    renames={"r3d18": R3D18, "r2plus1d18": R2PLUS1D18, "s3d": S3D},
    normalisation=Normalisation(mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989)),
    clips={"s3d": (128, 224, 224)},
)
