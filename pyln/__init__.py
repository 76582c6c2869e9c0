"""Layer normalization and its family for NumPy arrays, on the C library lnorm.

``layer_norm``, ``rms_norm``, ``group_norm``, ``instance_norm`` and their ``_backward`` are functions with PyTorch's
names and habits, ``LayerNorm``, ``RMSNorm``, ``GroupNorm``, ``InstanceNorm1d`` and so on are layers with parameters,
``pyln.cs231n`` has the course's signatures. Results are the same bits on every machine and for any number of threads.
"""

# Other distributions install parts of their own under this name, and a checkout finds its compiled part where
# `pip install .` put it.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)

try:
    from pyln import _core
except ImportError as error:
    raise ImportError(f"pyln's compiled part is missing (run `pip install .`) or cannot be loaded: {error}") from error

from pyln import cs231n
from pyln._isa import available_isas, isa, use_isa
from pyln._threads import get_num_threads, set_num_threads
from pyln.building_blocks import (
    GradMoments,
    Moments,
    apply_grad_moments,
    apply_moments,
    grad_moments,
    merge_grad_moments,
    merge_moments,
    moments,
)
from pyln.functional import (
    layer_norm,
    layer_norm_backward,
    layer_norm_backward_from_y,
    rms_norm,
    rms_norm_backward,
    rms_norm_backward_from_y,
)
from pyln.groups import group_norm, group_norm_backward, instance_norm, instance_norm_backward
from pyln.modules import GroupNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, LayerNorm, RMSNorm
from pyln.quantize import quantized_layer_norm, quantized_rms_norm
from pyln.residual import add_layer_norm, add_layer_norm_backward, add_rms_norm, add_rms_norm_backward

__version__: str = _core.version()

__all__ = [
    "GradMoments",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "Moments",
    "RMSNorm",
    "__version__",
    "add_layer_norm",
    "add_layer_norm_backward",
    "add_rms_norm",
    "add_rms_norm_backward",
    "apply_grad_moments",
    "apply_moments",
    "available_isas",
    "cs231n",
    "get_num_threads",
    "grad_moments",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "isa",
    "layer_norm",
    "layer_norm_backward",
    "layer_norm_backward_from_y",
    "merge_grad_moments",
    "merge_moments",
    "moments",
    "quantized_layer_norm",
    "quantized_rms_norm",
    "rms_norm",
    "rms_norm_backward",
    "rms_norm_backward_from_y",
    "set_num_threads",
    "use_isa",
]
