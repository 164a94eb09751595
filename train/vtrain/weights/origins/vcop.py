"""VCOP, by Xu et al.: Self-supervised spatiotemporal learning via video clip order prediction (CVPR 2019).

PRP, Pace and RSPNet use its networks and their names.
"""

from vtrain.weights.origins.origin import Normalisation, Origin, Renames

C3D: Renames = (
    (r"^conv([12])\.", r"conv\1.a.conv."),
    (r"^bn([12])\.", r"conv\1.a.bn."),
    (r"^conv([345])([ab])\.", r"conv\1.\2.conv."),
    (r"^bn([345])([ab])\.", r"conv\1.\2.bn."),
)
STEM: Renames = ((r"^conv1\.", "conv1.conv."), (r"^bn1\.", "conv1.bn."))
BLOCK: Renames = (
    (r"\.block1\.", ".0."),
    (r"\.downsampleconv\.", ".shortcut.conv."),
    (r"\.downsamplebn\.", ".shortcut.bn."),
)
R3D: Renames = (*STEM, *BLOCK, (r"\.temporal_spatial_conv\.", "."))
R2PLUS1D: Renames = (*STEM, *BLOCK, (r"\.spatial_conv\.", ".spatial."), (r"\.temporal_conv\.", ".temporal."))

VCOP = Origin(
    name="vcop",
    prefix=r"(?:module\.)?(?:base_network\.)?",
    skipped=("fc7", "fc8", "linear"),
    renames={"c3d": C3D, "r3d": R3D, "r2plus1d": R2PLUS1D},
    normalisation=Normalisation(),
)
