"""Matrix products of the head, by the library that torch calls, in the precisions that the head needs.

Shapes: R rows, V columns of the vocabulary, H hidden.
"""

import torch
from torch import Tensor


def project(hidden_RH: Tensor, weight_VH: Tensor, fp32: bool) -> Tensor:
    """hidden x weight^T, [R, V]: in their own type, or in fp32 (fp64 from fp64), never rounded to 16 bits.

    Logits rounded to bf16 cost up to 6e-2 in log-prob, fp32 ones 4e-6.
    """
    if not fp32 or hidden_RH.dtype.itemsize >= 4:
        return hidden_RH @ weight_VH.T
    if hidden_RH.is_cuda:
        return torch.mm(hidden_RH, weight_VH.T, out_dtype=torch.float32)
    return hidden_RH.float() @ weight_VH.float().T


def accumulate(sum_VH: Tensor, gradient_RV: Tensor, hidden_RH: Tensor) -> None:
    """sum += gradient^T x hidden, added up in the type of `sum_VH`."""
    if sum_VH.dtype == gradient_RV.dtype:
        sum_VH.addmm_(gradient_RV.T, hidden_RH)
    elif sum_VH.is_cuda:
        torch.addmm(sum_VH, gradient_RV.T, hidden_RH, out_dtype=sum_VH.dtype, out=sum_VH)
    else:
        sum_VH += gradient_RV.T.to(sum_VH.dtype) @ hidden_RH.to(sum_VH.dtype)
