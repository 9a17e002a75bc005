"""The tables of `token_limit_core.stores.sql.tables` as models, for the admin and for migrations.

Times are unix seconds, so windows do not depend on USE_TZ or on the dialect. Money is integer nano-dollars. Tenants
are text, and no foreign key refers to a table of the project.
"""

from .calls import Hold, HoldItem, LedgerEntry, Refusal, Rollup, UserRollup
from .limits import Counter, Limit, LimitChange, Notice, TopUp
from .services import ApiKey, Delivery, Figures
from .tenants import Overview, Plan, Tenant

__all__ = [
    "ApiKey",
    "Counter",
    "Delivery",
    "Figures",
    "Hold",
    "HoldItem",
    "LedgerEntry",
    "Limit",
    "LimitChange",
    "Notice",
    "Overview",
    "Plan",
    "Refusal",
    "Rollup",
    "Tenant",
    "TopUp",
    "UserRollup",
]
