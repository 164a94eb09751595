# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN201
"""The kernels of fused_norm.py, in Triton's language.

x, y, added, slope   maps of `P` rows and `W` columns for each group; each channel has W / C columns
part                 two sums of each column of a group, from each program along its rows; `count` of them
numbers              mean, 1 / deviation, scale and offset of each channel of a group
per                  rows of a program
"""

import triton
import triton.language as tl


@triton.jit
def sums(x, part, P, C, W, per, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < W
    group = tl.program_id(2).to(tl.int64)
    x += group * P * W
    first = tl.program_id(1).to(tl.int64) * per
    last = tl.minimum(first + per, P)
    origin = tl.load(x + columns % C, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    squares = tl.zeros([ROWS, COLUMNS], tl.float32)
    for at in range(first, last, ROWS):
        rows = at + tl.arange(0, ROWS)
        there = (rows < last)[:, None] & inside[None, :]
        value = tl.load(x + rows[:, None] * W + columns[None, :], mask=there, other=0.0).to(tl.float32)
        value = tl.where(there, value - origin[None, :], 0.0)
        total += value
        squares += value * value
    to = part + (group * tl.num_programs(1) + tl.program_id(1)) * 2 * W + columns
    tl.store(to, tl.sum(total, 0), mask=inside)
    tl.store(to + W, tl.sum(squares, 0), mask=inside)


@triton.jit
def added_up(part, columns, inside, C, W, count, PARTS: tl.constexpr, GROUP: tl.constexpr):
    """Return both sums of each channel over all parts and over the positions of a row."""
    total = tl.zeros([PARTS, GROUP], tl.float32)
    others = tl.zeros([PARTS, GROUP], tl.float32)
    positions = W // C
    for at in range(0, count * positions, PARTS):
        rows = at + tl.arange(0, PARTS)
        there = (rows < count * positions)[:, None] & inside[None, :]
        where = (rows // positions * 2 * W + rows % positions * C)[:, None] + columns[None, :]
        total += tl.load(part + where, mask=there, other=0.0)
        others += tl.load(part + where + W, mask=there, other=0.0)
    return tl.sum(total, 0), tl.sum(others, 0)


@triton.jit
def statistics(
    x, part, weight, bias, running_mean, running_var, numbers,
    positions, C, W, known, count, groups, momentum, eps,
    PARTS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    columns = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    inside, real = columns < C, columns < known
    weights = tl.load(weight + columns, mask=real, other=0.0)
    biases = tl.load(bias + columns, mask=real, other=0.0)
    means = tl.load(running_mean + columns, mask=real, other=0.0)
    variances = tl.load(running_var + columns, mask=real, other=0.0)
    stride = tl.full([], C, tl.int64) * positions
    for _ in range(groups):  # one after the other: each changes the running statistics
        total, squares = added_up(part, columns, inside, C, W, count, PARTS, GROUP)
        shift = total / positions
        variance = tl.maximum(squares / positions - shift * shift, 0.0)
        mean = tl.load(x + columns, mask=inside, other=0.0).to(tl.float32) + shift
        inverse = 1.0 / tl.sqrt(variance + eps)
        scale = weights * inverse
        tl.store(numbers + columns, mean, mask=inside)
        tl.store(numbers + C + columns, inverse, mask=inside)
        tl.store(numbers + 2 * C + columns, scale, mask=inside)
        tl.store(numbers + 3 * C + columns, biases - mean * scale, mask=inside)
        means += momentum * (mean - means)
        variances += momentum * (variance * positions / (positions - 1) - variances)
        x += stride
        part += count * 2 * W
        numbers += 4 * C
    tl.store(running_mean + columns, means, mask=real)
    tl.store(running_var + columns, variances, mask=real)


@triton.jit
def output(
    x, added, numbers, y, P, C, W, per,
    ADDED: tl.constexpr, RELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < W
    group = tl.program_id(2).to(tl.int64)
    x += group * P * W
    added += group * P * W
    y += group * P * W
    numbers += group * 4 * C
    scale = tl.load(numbers + 2 * C + columns % C, mask=inside, other=0.0)
    offset = tl.load(numbers + 3 * C + columns % C, mask=inside, other=0.0)
    first = tl.program_id(1).to(tl.int64) * per
    last = tl.minimum(first + per, P)
    for at in range(first, last, ROWS):
        rows = at + tl.arange(0, ROWS)
        there = (rows < last)[:, None] & inside[None, :]
        where = rows[:, None] * W + columns[None, :]
        value = tl.load(x + where, mask=there, other=0.0).to(tl.float32) * scale[None, :] + offset[None, :]
        if ADDED:
            value += tl.load(added + where, mask=there, other=0.0).to(tl.float32)
        if RELU:
            value = tl.maximum(value, 0.0)
        tl.store(y + where, value.to(y.dtype.element_ty), mask=there)


@triton.jit
def slopes(
    x, y, slope, numbers, kept, part, P, C, W, per,
    ADDED: tl.constexpr, RELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Add up the slopes that the ReLU let through, alone and times the normalised number; with ADDED, store them."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < W
    group = tl.program_id(2).to(tl.int64)
    x += group * P * W
    y += group * P * W
    slope += group * P * W
    kept += group * P * W
    numbers += group * 4 * C
    mean = tl.load(numbers + columns % C, mask=inside, other=0.0)
    inverse = tl.load(numbers + C + columns % C, mask=inside, other=0.0)
    scale = tl.load(numbers + 2 * C + columns % C, mask=inside, other=0.0)
    offset = tl.load(numbers + 3 * C + columns % C, mask=inside, other=0.0)
    first = tl.program_id(1).to(tl.int64) * per
    last = tl.minimum(first + per, P)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    products = tl.zeros([ROWS, COLUMNS], tl.float32)
    for at in range(first, last, ROWS):
        rows = at + tl.arange(0, ROWS)
        there = (rows < last)[:, None] & inside[None, :]
        where = rows[:, None] * W + columns[None, :]
        value = tl.load(x + where, mask=there, other=0.0).to(tl.float32)
        grad = tl.load(slope + where, mask=there, other=0.0).to(tl.float32)
        if RELU:
            if ADDED:
                grad = tl.where(tl.load(y + where, mask=there, other=0.0) > 0, grad, 0.0)
            else:
                grad = tl.where(value * scale[None, :] + offset[None, :] > 0, grad, 0.0)
        if ADDED:
            tl.store(kept + where, grad.to(kept.dtype.element_ty), mask=there)
        total += grad
        products += grad * ((value - mean[None, :]) * inverse[None, :])
    to = part + (group * tl.num_programs(1) + tl.program_id(1)) * 2 * W + columns
    tl.store(to, tl.sum(total, 0), mask=inside)
    tl.store(to + W, tl.sum(products, 0), mask=inside)


@triton.jit
def of_affine(part, affine, C, W, count, PARTS: tl.constexpr, GROUP: tl.constexpr):
    """Write the gradients of weight and bias from each group."""
    columns = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    inside = columns < C
    group = tl.program_id(1).to(tl.int64)
    total, products = added_up(part + group * count * 2 * W, columns, inside, C, W, count, PARTS, GROUP)
    tl.store(affine + group * 2 * C + columns, products, mask=inside)
    tl.store(affine + group * 2 * C + C + columns, total, mask=inside)


@triton.jit
def gradient(
    x, slope, numbers, affine, to, positions, P, C, W, per,
    RELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the gradient of x; with RELU, `slope` is the one after it."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < W
    group = tl.program_id(2).to(tl.int64)
    x += group * P * W
    slope += group * P * W
    to += group * P * W
    numbers += group * 4 * C
    affine += group * 2 * C
    mean = tl.load(numbers + columns % C, mask=inside, other=0.0)
    inverse = tl.load(numbers + C + columns % C, mask=inside, other=0.0)
    scale = tl.load(numbers + 2 * C + columns % C, mask=inside, other=0.0)
    offset = tl.load(numbers + 3 * C + columns % C, mask=inside, other=0.0)
    of_one = tl.load(affine + C + columns % C, mask=inside, other=0.0) / positions
    of_value = tl.load(affine + columns % C, mask=inside, other=0.0) / positions
    first = tl.program_id(1).to(tl.int64) * per
    last = tl.minimum(first + per, P)
    for at in range(first, last, ROWS):
        rows = at + tl.arange(0, ROWS)
        there = (rows < last)[:, None] & inside[None, :]
        where = rows[:, None] * W + columns[None, :]
        value = tl.load(x + where, mask=there, other=0.0).to(tl.float32)
        grad = tl.load(slope + where, mask=there, other=0.0).to(tl.float32)
        if RELU:
            grad = tl.where(value * scale[None, :] + offset[None, :] > 0, grad, 0.0)
        value = (value - mean[None, :]) * inverse[None, :]
        grad = scale[None, :] * (grad - of_one[None, :] - value * of_value[None, :])
        tl.store(to + where, grad.to(to.dtype.element_ty), mask=there)
