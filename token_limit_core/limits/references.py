"""The reference of a refusal: short text that a customer reads out, and that support finds the refusal by."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

from .decisions import REFUSALS

URN = "urn:token-limit:refusal:"
_MINUTE = "%Y%m%dT%H%MZ"


class Reference(NamedTuple):
    """What a reference names: the kind of a refusal, its minute (unix seconds) and a mark of the tenant.

    The mark is a hash: a page may be seen by more people than may know the tenant's id.
    """

    kind: str
    minute: int
    mark: str

    def __str__(self) -> str:
        """Write the reference, such as `exhausted.20270115T1402Z.9f86d081`."""
        return f"{self.kind}.{datetime.fromtimestamp(self.minute, UTC):{_MINUTE}}.{self.mark}"

    def is_of(self, tenant_id: str) -> bool:
        """Return whether the mark is that of a tenant."""
        return self.mark == _mark(tenant_id)


def reference_of(kind: str, tenant_id: str, now: float) -> Reference:
    """Make the reference of a refusal at `now` (unix seconds)."""
    return Reference(kind, int(now // 60) * 60, _mark(tenant_id))


def _mark(tenant_id: str) -> str:
    return blake2b(tenant_id.encode("utf-8", "replace"), digest_size=4).hexdigest()


def parse_reference(text: str) -> Reference | None:
    """Parse a reference, with or without the prefix of its URN; None for anything else."""
    kind, _, rest = text.strip().removeprefix(URN).partition(".")
    minute, _, mark = rest.partition(".")
    try:
        at = datetime.strptime(minute, _MINUTE).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Reference(kind, int(at.timestamp()), mark) if mark and kind in REFUSALS else None
