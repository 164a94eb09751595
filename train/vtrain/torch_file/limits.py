"""Refuse a pickle that would take absurd time or memory to read, by its opcodes alone; nothing in it is executed.

A few bytes can say that a tuple holds another one twice, and that one another one twice, and so on: a hash of the
outermost takes years. The objects' sizes and depths are therefore followed from opcode to opcode, as if each were
written out in full. An object that is changed after its first use counts with its size at that use.
"""

import io
import pickle
import pickletools
from typing import NamedTuple

BYTES = 64 << 20  # of a pickle: it describes tensors and does not hold them
OPCODES = 1_000_000  # a state of a training has about 30 for each of its tensors
OBJECTS = 2_000_000  # in one object, written out in full
DEPTH = 200

GETS = ("GET", "BINGET", "LONG_BINGET")
PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
GROWS = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")  # the first object by the others
MARK = pickletools.markobject
Arg = int | str | bytes | float | None


class Size(NamedTuple):
    """How many objects an object holds, itself included, and how deep they are nested."""

    objects: int = 1
    depth: int = 1


class _Stack:
    """The sizes of the objects on a pickle's stack, and of those that it remembers."""

    def __init__(self) -> None:
        self._sizes: list[Size] = []
        self._marks: list[int] = []
        self._memo: dict[int, Size] = {}

    def take(self, opcode: pickletools.OpcodeInfo, arg: Arg) -> None:
        """Change the stack as the opcode does."""
        if opcode.name == "MARK":
            self._marks.append(len(self._sizes))
        elif opcode.name in GETS:
            self._sizes.append(self._memo[int(arg or 0)])
        elif opcode.name in PUTS or opcode.name == "MEMOIZE":
            self._remember(len(self._memo) if opcode.name == "MEMOIZE" else int(arg or 0))
        elif opcode.name == "POP" and self._marks and self._marks[-1] == len(self._sizes):
            self._marks.pop()
        else:
            self._replace(opcode)

    def _remember(self, place: int) -> None:
        if place > OPCODES:  # Python's own reader makes room for all places before it
            raise pickle.UnpicklingError(f"it asks for {place} places of memory")
        self._memo[place] = self._sizes[-1]

    def _replace(self, opcode: pickletools.OpcodeInfo) -> None:
        """Replace the objects that the opcode takes by those that it leaves, which hold them."""
        before = opcode.stack_before
        marked = MARK in before
        first = (self._marks.pop() if marked else len(self._sizes)) - (before.index(MARK) if marked else len(before))
        if first < (self._marks[-1] if self._marks else 0):
            raise pickle.UnpicklingError("it takes objects that are not there")
        inner = self._sizes[first:]
        grown, parts = inner[: opcode.name in GROWS], inner[opcode.name in GROWS :]
        depths = [size.depth for size in grown] + [1 + size.depth for size in parts]
        made = Size(1 + sum(size.objects for size in inner), max(depths, default=1))
        if made.objects > OBJECTS or made.depth > DEPTH:
            raise pickle.UnpicklingError(f"it holds more than {OBJECTS} objects, or nests them more than {DEPTH} deep")
        self._sizes[first:] = [made] * len(opcode.stack_after)


def check(file: io.BytesIO) -> None:
    """Read one pickle to its end and refuse it where it exceeds the limits; the file stands behind it afterwards."""
    stack = _Stack()
    for number, (opcode, arg, _) in enumerate(pickletools.genops(file)):
        if number >= OPCODES:
            raise pickle.UnpicklingError(f"it has more than {OPCODES} entries")
        stack.take(opcode, arg)
