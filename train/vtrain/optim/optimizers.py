"""The optimisers. Each group of parameters has a factor of its own for the learning rate."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from vprep.errors import UsageError
from vtrain.optim.config import Optim


class LARS(Optimizer):
    """SGD with momentum in which the length of each layer's step is proportional to that of its weights.

    You, Gitman, Ginsburg: Large batch training of convolutional networks (2017), in the form of BYOL's code: weight
    decay is added to the gradient before its length is taken (the paper adds the two lengths), and the learning rate
    is applied outside the momentum. A group whose `eta` is None takes SGD's steps.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 0.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float | None = 1e-3,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is ever called
        for group in self.param_groups:
            learning = [parameter for parameter in group["params"] if parameter.grad is not None]
            if learning:
                self._step_group(group, learning)

    def _step_group(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        updates = [weight.grad for weight in weights if weight.grad is not None]
        if group["weight_decay"]:
            updates = list(torch._foreach_add(updates, weights, alpha=group["weight_decay"]))
        if group["eta"] is not None:
            updates = list(torch._foreach_mul(updates, trust_ratios(weights, updates, group["eta"])))
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        moving = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_mul_(moving, group["momentum"])
        torch._foreach_add_(moving, updates)
        torch._foreach_add_(weights, moving, alpha=-group["lr"])


def trust_ratios(weights: list[Tensor], updates: list[Tensor], eta: float) -> list[Tensor]:
    """Return for each layer the factor that makes its update `eta` times as long as its weights.

    The factor is 1 where either length is 0. The factors stay on the device, so no step waits for their values.
    """
    weight_lengths = torch.stack(torch._foreach_norm(weights))
    update_lengths = torch.stack(torch._foreach_norm(updates))
    known = (weight_lengths > 0) & (update_lengths > 0)
    return list(torch.where(known, eta * weight_lengths / update_lengths, 1.0).unbind())


def build(module: nn.Module, config: Optim, lr_factors: Mapping[str, float] | None = None) -> Optimizer:
    """Build the optimiser of a module's parameters. Its learning rate is 0 until `set_lr` is called.

    `lr_factors` multiply the learning rate of the parameters whose names in `module` start with the key. Pass the
    module itself, not a wrapper of DDP or torch.compile, which changes the names.
    """
    if config.nesterov and config.name != "sgd":
        raise UsageError(
            f"optim.nesterov is true with optim.name={config.name}: only sgd has it; set optim.nesterov=false"
        )
    if config.nesterov and not config.momentum:
        raise UsageError(
            "optim.nesterov is true with optim.momentum=0: set optim.momentum above 0, or optim.nesterov=false"
        )
    groups = parameter_groups(module, config, lr_factors or {})
    match config.name:
        case "sgd":
            return SGD(groups, lr=0.0, momentum=config.momentum, nesterov=config.nesterov, foreach=True)
        case "lars":
            return LARS(groups, momentum=config.momentum)
        case "adamw":
            return AdamW(groups, lr=0.0, betas=(config.momentum, 0.999), foreach=True)


def parameter_groups(module: nn.Module, config: Optim, lr_factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return groups with each trainable parameter once; if several keys fit its name, the longest counts."""
    names = [name for name, _ in module.named_parameters()]
    for start in lr_factors:
        if not any(name.startswith(start) for name in names):
            first = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
            raise UsageError(
                f"lr_factors has '{start}', with which no parameter's name begins; their names begin with {first}"
            )
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            fitting = [start for start in lr_factors if name.startswith(start)]
            factor = lr_factors[max(fitting, key=len)] if fitting else 1.0
            # In these networks the biases and the parameters of batch norm have one dimension, and no others have.
            excluded = config.exclude == "bias and norm" and parameter.ndim <= 1
            members.setdefault((factor, excluded), []).append(parameter)
    groups: list[dict[str, Any]] = []
    for (factor, excluded), parameters in members.items():
        group = {"params": parameters, "lr_factor": factor, "weight_decay": 0.0 if excluded else config.weight_decay}
        if config.name == "lars":
            group["eta"] = None if excluded else config.eta
        groups.append(group)
    return groups


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of each group: `lr` times the group's factor. The optimiser must come from `build`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
