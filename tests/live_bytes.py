"""Memory that a computation holds, counted tensor by tensor: what the formulas are checked by."""

from __future__ import annotations

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LiveBytes(TorchDispatchMode):
    """Follows the tensors that operations make until they are let go; ``peak`` in bytes.

    Tensors that share their memory count once. Of what an operation needs
    while it runs, only the indices of pools are seen.
    """

    def __init__(self):
        super().__init__()
        self.peak = 0
        self.held = 0
        self.users = {}  # tensors on each storage
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and id(tensor) not in self.known:
                self.note(tensor)
        if func is torch.ops.aten.max_pool2d.default:  # makes indices too, and drops them
            self.peak = max(self.peak, self.held + result.numel() * 8)
        return result

    def note(self, tensor):
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        self.known.add(id(tensor))
        self.users[place] = self.users.get(place, 0) + 1
        if self.users[place] == 1:
            self.held += size
            self.peak = max(self.peak, self.held)
        weakref.finalize(tensor, self.let_go, id(tensor), place, size)

    def let_go(self, tensor, place, size):
        self.known.discard(tensor)
        self.users[place] -= 1
        if not self.users[place]:
            self.held -= size


@torch.inference_mode()
def peak_live_bytes(run):
    """Bytes of the tensors that ``run()`` holds at once, at most, its result included."""
    with LiveBytes() as counter:
        result = run()
        del result
    return counter.peak
