"""What a Meter offers to manage limits, plans, tenants and holds: arguments are checked here, stores do the rest."""

from .holds import ManagesHolds
from .limits import ManagesLimits
from .parsing import LIMIT_KEYWORDS, limit_of
from .plans import ManagesPlans
from .prices import ManagesPrices, Repriced
from .tenants import ManagesTenants

__all__ = [
    "LIMIT_KEYWORDS", "ManagesHolds", "ManagesLimits", "ManagesPlans", "ManagesPrices", "ManagesTenants", "Repriced",
    "limit_of",
]  # fmt: skip
