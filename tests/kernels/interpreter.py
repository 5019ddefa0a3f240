"""Makes Triton 3.6's CPU interpreter do what a GPU does, in two places; import before a kernel runs.

- Loops with bounds computed in the kernel need tensor.__index__, which it writes as int(array of one element): an
  error since NumPy 2.4 (triton-lang/triton issue 9171).
- It cuts fp32 to bf16 by dropping bits; the hardware instruction that Triton emits rounds to the nearest.
"""

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

_patch_tensor, _convert_float = interpreter._patch_lang_tensor, interpreter._convert_float


def _patch_tensor_and_index(tensor: type, scope: interpreter._LangPatchScope) -> None:
    _patch_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


def _convert_rounding(values: np.ndarray, source: tl.dtype, target: tl.dtype, rounding_mode: object) -> np.ndarray:
    if source == tl.float32 and target == tl.bfloat16:
        return torch.from_numpy(np.array(values)).bfloat16().view(torch.int16).numpy().view(np.uint16)
    return _convert_float(values, source, target, rounding_mode)


interpreter._patch_lang_tensor = _patch_tensor_and_index
interpreter._convert_float = _convert_rounding
