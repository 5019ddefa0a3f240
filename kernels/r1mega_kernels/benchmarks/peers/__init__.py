"""All peers; a new family is a file here and a line below."""

from r1mega_kernels.benchmarks.peer import Operation, Peer
from r1mega_kernels.benchmarks.peers import fla, liger, megatron, ours, plain_torch, quack, verl


def peers_of(operation: Operation, budget_bytes: int) -> list[Peer]:
    """Those who do the operation, ours first."""
    families = [ours.peers(budget_bytes), plain_torch.peers(), megatron.peers(), fla.peers(), liger.peers(),
                quack.peers(), verl.peers()]
    return [peer for family in families for peer in family if peer.operation == operation]
