"""Pace: checkpoints of laura-wang/video-pace. The authors published the code and no weights."""

from vtrain.weights.origins.origin import Normalisation, Origin, Renames
from vtrain.weights.origins.vcop import C3D, R2PLUS1D, R3D

S3DG: Renames = (
    (r"^conv1\.(conv|bn)1\.", r"conv1.\1."),
    (r"^conv_2b\.(conv|bn)1\.", r"conv2.b.\1."),
    (r"^conv_2c\.(conv|bn)1\.", r"conv2.c.spatial.\1."),
    (r"^conv_2c\.(conv|bn)2\.", r"conv2.c.temporal.\1."),
    (r"^gating\.fc\.", "conv2.c.gate."),
    (r"^mixed_([345])([b-f])\.", r"conv\1.\2."),
    (r"\.conv_b0\.(conv|bn)1\.", r".branch0.point.\1."),
    (r"\.conv_b3_b\.(conv|bn)1\.", r".branch3.point.\1."),
    (r"\.conv_b([12])_a\.(conv|bn)1\.", r".branch\1.reduce.\2."),
    (r"\.conv_b([12])_b\.(conv|bn)1\.", r".branch\1.separable.spatial.\2."),
    (r"\.conv_b([12])_b\.(conv|bn)2\.", r".branch\1.separable.temporal.\2."),
    (r"\.gating_b([03])\.fc\.", r".branch\1.gate."),
    (r"\.gating_b([12])\.fc\.", r".branch\1.separable.gate."),
)

PACE = Origin(
    name="pace",
    prefix=r"(?:state_dict\.)?(?:module\.)?",
    skipped=("linear", "fc", "opt_dict"),
    renames={"c3d": C3D, "r3d": R3D, "r2plus1d": R2PLUS1D, "s3dg_pace": S3DG},
    # The network takes frames as OpenCV reads them.
    normalisation=Normalisation(scale=255, channels="bgr"),
    clips={"s3dg_pace": (64, 224, 224)},
)
