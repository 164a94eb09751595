"""RSPNet: the release assets of PeihaoChen/RSPNet, pre-trained and fine-tuned."""

from vtrain.weights.origins.origin import Normalisation, Origin, Renames
from vtrain.weights.origins.vcop import C3D, R2PLUS1D

RESNET: Renames = (
    (r"^conv1\.", "conv1.conv."),
    (r"^bn1\.", "conv1.bn."),
    *((rf"^layer{layer}\.", f"conv{layer + 1}.") for layer in (1, 2, 3, 4)),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.bn."),
)
S3DG: Renames = (
    (r"^feature\.sepConv1\.", "conv1."),
    (r"^feature\.basicConv3d\.", "conv2.b."),
    (r"^feature\.sep_conv2\.", "conv2.c."),
    (r"^feature\.sepInc_([345])([b-f])\.", r"conv\1.\2."),
    (r"\.branch0\.", ".branch0.point."),
    (r"\.branch([12])\.0\.", r".branch\1.reduce."),
    (r"\.branch([12])\.1\.", r".branch\1.separable."),
    (r"\.branch3\.1\.", ".branch3.point."),
    (r"\.sep_conv\.0\.", ".spatial."),
    (r"\.sep_conv\.1\.", ".temporal."),
    (r"\.conv3d\.", ".conv."),
    (r"\.excitation\.", ".gate."),
)

RSPNET = Origin(
    name="rspnet",
    prefix=r"(?:model\.)?(?:module\.)?(?:encoder_q\.)?(?:encoder\.)?",
    # fc1 is the appearance head and fc2 the motion head; the encoder also has fc and linear, which are never used.
    skipped=("encoder_k", "queue", "queue_ptr", "fc1", "fc2", "fc", "linear", "optimizer", "scheduler"),
    renames={"resnet3d18": RESNET, "c3d": C3D, "r2plus1d": R2PLUS1D, "s3dg": S3DG},
    normalisation=Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    clips={"s3dg": (16, 224, 224)},
)
