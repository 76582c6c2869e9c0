"""pyln for PyTorch's CPU tensors, with autograd; needs torch (``pip install "pyln[torch]"``).

``layer_norm``, ``rms_norm``, ``group_norm`` and ``LayerNorm``, ``RMSNorm``, ``GroupNorm`` stand in for those of
``torch.nn.functional`` and ``torch.nn``; ``add_layer_norm`` adds a residual first; ``convert`` swaps the layers of a
model. Tensors are read and written where they lie. The operators are ``torch.ops.pyln.layer_norm`` and so on.
"""

try:
    from torch import __version__ as _version

    if tuple(map(int, _version.split(".")[:2])) < (2, 7):
        raise ImportError(f"got PyTorch {_version}")
except ImportError as error:
    raise ImportError(f'pyln.torch needs PyTorch 2.7 or later: pip install "pyln[torch]"; {error}') from error

from pyln.torch.convert import Conversion, convert
from pyln.torch.functional import add_layer_norm, group_norm, layer_norm, rms_norm
from pyln.torch.modules import GroupNorm, LayerNorm, RMSNorm

__all__ = [
    "Conversion",
    "GroupNorm",
    "LayerNorm",
    "RMSNorm",
    "add_layer_norm",
    "convert",
    "group_norm",
    "layer_norm",
    "rms_norm",
]
