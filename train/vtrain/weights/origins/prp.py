"""PRP: the weights that yuanyao366/PRP links to, pre-trained (with decoder and rate head) and fine-tuned."""

from vtrain.weights.origins.origin import Normalisation, Origin, Renames
from vtrain.weights.origins.vcop import R2PLUS1D, R3D

UNIT: Renames = ((r"\.conv3d\.0\.", ".conv."), (r"\.conv3d\.1\.", ".bn."))
C3D: Renames = (
    (r"^conv([12])\.", r"conv\1.a."),
    (r"^conv([345])_1\.", r"conv\1.a."),
    (r"^conv([345])_2\.", r"conv\1.b."),
    *UNIT,
)
HEADS: Renames = (
    (r"^up([123])\.up3d\.", r"decoder.up\1.up."),
    (r"^up([123])\.conv3d\.conv3d\.0\.", r"decoder.up\1.conv.conv."),
    (r"^up([123])\.conv3d\.conv3d\.1\.", r"decoder.up\1.conv.bn."),
    (r"^up4_1\.", "decoder.up4."),
    (r"^outc\.conv3d\.0\.", "decoder.out.conv."),
    (r"^outc\.conv3d\.1\.", "decoder.out.bn."),
    (r"^conv6_rec\.conv3d\.0\.", "decoder.conv6.conv."),
    (r"^conv6_rec\.conv3d\.1\.", "decoder.conv6.bn."),
    (r"^conv6_cls\.conv3d\.0\.", "rates.conv6.conv."),
    (r"^conv6_cls\.conv3d\.1\.", "rates.conv6.bn."),
    (r"^fc8\.", "rates.fc."),
)

PRP = Origin(
    name="prp",
    prefix=r"(?:module\.)?(?:base_network\.)?",
    skipped=("linear",),
    renames={"c3d": C3D, "r3d": R3D, "r2plus1d": R2PLUS1D},
    normalisation=Normalisation(),
    heads=HEADS,
)
