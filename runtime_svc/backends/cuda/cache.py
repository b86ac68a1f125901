"""The KV slots of a model on a device."""

from __future__ import annotations

from dataclasses import dataclass

from runtime_svc.backends.cuda.device import Device
from runtime_svc.models.architecture import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class KvCache:
    """Keys (after norm and rotation) and values: (layers, 2, slots, kv_heads, capacity, head_dim) at `address`.

    In IEEE half, which is three bits more precise than bfloat16 (ADR 10). What a half cannot hold, from 65,520 on, is
    stored as NaN, and every token that sees it fails as `logits_not_finite`.

    The elements of a head are in Hugging Face's order: number i turns with number i + head_dim / 2.
    """

    address: int
    layers: int
    slots: int
    kv_heads: int
    capacity: int
    head_dim: int

    @classmethod
    def allocate(cls, device: Device, config: ModelConfig, *, slots: int, capacity: int) -> KvCache:
        """Empty slots. Raises RESOURCE_EXHAUSTED when they do not fit the device."""
        size = config.layers * 2 * slots * config.kv_heads * capacity * config.head_dim * 2
        return cls(
            address=device.allocate(size),
            layers=config.layers,
            slots=slots,
            kv_heads=config.kv_heads,
            capacity=capacity,
            head_dim=config.head_dim,
        )

    @property
    def layer_size(self) -> int:
        """Bytes of one layer's keys and values."""
        return 2 * self.slots * self.kv_heads * self.capacity * self.head_dim * 2

    def layer(self, index: int) -> int:
        """The address of one layer's keys and values."""
        return self.address + index * self.layer_size
