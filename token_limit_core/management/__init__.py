"""What a Meter offers to manage limits, plans and tenants: arguments are checked here, stores do the rest."""

from .limits import ManagesLimits
from .parsing import limit_of
from .plans import ManagesPlans
from .tenants import ManagesTenants

__all__ = ["ManagesLimits", "ManagesPlans", "ManagesTenants", "limit_of"]
