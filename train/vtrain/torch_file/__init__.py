"""The files of torch.save, read as data: nothing in them is executed, and a damaged file is refused."""

from vtrain.torch_file.read import UnreadableError as UnreadableError
from vtrain.torch_file.read import read as read
from vtrain.torch_file.read import read_values as read_values
