"""Weights of backbones: import published weights, write weights, read them. No file is trusted."""

from typing import TYPE_CHECKING

from vtrain.lazy import exports

if TYPE_CHECKING:
    from vtrain.weights.backbone_file import load_backbone as load_backbone
    from vtrain.weights.backbone_file import load_weights as load_weights
    from vtrain.weights.backbone_file import read_weights as read_weights
    from vtrain.weights.backbone_file import save_weights as save_weights
    from vtrain.weights.checkpoint_file import read_checkpoint as read_checkpoint
    from vtrain.weights.importer import ORIGINS as ORIGINS
    from vtrain.weights.importer import Imported as Imported
    from vtrain.weights.importer import import_file as import_file
    from vtrain.weights.importer import import_weights as import_weights
    from vtrain.weights.info import WeightsInfo as WeightsInfo

__getattr__ = exports(
    __name__,
    {
        "load_backbone": "backbone_file",
        "load_weights": "backbone_file",
        "read_weights": "backbone_file",
        "save_weights": "backbone_file",
        "read_checkpoint": "checkpoint_file",
        "ORIGINS": "importer",
        "Imported": "importer",
        "import_file": "importer",
        "import_weights": "importer",
        "WeightsInfo": "info",
    },
)
