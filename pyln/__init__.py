"""Layer and RMS normalization for NumPy arrays, on the C library lnorm.

``layer_norm``, ``rms_norm`` and their ``_backward`` are functions with PyTorch's names and habits, ``LayerNorm`` and
``RMSNorm`` are layers with parameters, ``pyln.cs231n`` has the course's signatures. Results are the same bits on every
machine and for any number of threads.
"""

# Other distributions install parts of their own under this name, and a checkout finds its compiled part where
# `pip install .` put it.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)

try:
    from pyln import _core
except ImportError as error:
    raise ImportError("pyln's compiled part is missing or cannot be loaded; run `pip install .` first") from error

from pyln import cs231n
from pyln._isa import available_isas, isa, use_isa
from pyln._threads import get_num_threads, set_num_threads
from pyln.functional import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from pyln.modules import LayerNorm, RMSNorm

__version__: str = _core.version()

__all__ = [
    "LayerNorm",
    "RMSNorm",
    "__version__",
    "available_isas",
    "cs231n",
    "get_num_threads",
    "isa",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
    "set_num_threads",
    "use_isa",
]
