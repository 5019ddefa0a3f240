"""Sending between pipeline stages, where Megatron's needs mending."""

import torch
from megatron.core.pipeline_parallel.p2p_communication import P2PCommunicator, _p2p_ops


class PipelineCommunicator(P2PCommunicator):
    """Exchanges shapes in the order in which it exchanges tensors.

    With variable lengths Megatron sends shapes in batched pairs whatever `batch_p2p_comm` says. With an
    interleaved schedule on two stages the previous rank is the next one, and the pairs of the two directions get
    mixed up.

    Does not wait until a shape that it sends has been taken: a stage may be waiting for our tensor of one direction
    before it asks for the shape of the other, as the first stage does at the end of its warm-up when all its
    micro-batches fit in that.
    """

    _sent: tuple[tuple[torch.distributed.Work, torch.Tensor], ...] = ()

    def _communicate_shapes(
        self, tensor_send_next: torch.Tensor | None, tensor_send_prev: torch.Tensor | None, recv_prev: bool,
        recv_next: bool,
    ) -> tuple[list[int], list[int]]:
        device = torch.cuda.current_device()

        def shape_of(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else torch.tensor(tensor.shape, dtype=torch.int64, device=device)

        def room(wanted: bool) -> torch.Tensor | None:
            return torch.empty(3, dtype=torch.int64, device=device) if wanted else None

        for request, _ in self._sent:  # long since taken: the tensors that went after them have been
            request.wait()
        from_prev, from_next = room(recv_prev), room(recv_next)
        sent = {"send_prev": shape_of(tensor_send_prev), "send_next": shape_of(tensor_send_next)}
        requests = _p2p_ops(
            tensor_send_prev=sent["send_prev"], tensor_recv_prev=from_prev,
            tensor_send_next=sent["send_next"], tensor_recv_next=from_next,
            group=self.pp_group, prev_pipeline_rank=self.prev_rank, next_pipeline_rank=self.next_rank)
        # The sent shapes are kept until then: their memory must not be used again while they travel.
        self._sent = tuple((requests.pop(name), shape) for name, shape in sent.items() if shape is not None)
        for request in requests.values():
            request.wait()
        nothing = [0, 0, 0]
        return (nothing if from_prev is None else from_prev.tolist(),
                nothing if from_next is None else from_next.tolist())
