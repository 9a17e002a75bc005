"""The pages in Django's admin: limits, their history, tenants, holds, events and API keys.

They show the tables of the project's database, so they are not registered if TOKEN_LIMIT['STORE'] is set.
"""

from django.contrib import admin

from ..conf import settings
from ..models import ApiKey, Hold, LedgerEntry, Limit, LimitChange, Overview, Tenant
from .changes import ChangeAdmin
from .events import EventAdmin
from .holds import HoldAdmin
from .keys import ApiKeyAdmin
from .limits import LimitAdmin
from .pages import PagesAdmin
from .tenants import TenantAdmin

admin.site.register(Overview, PagesAdmin)
if settings.STORE is None:
    admin.site.register(Limit, LimitAdmin)
    admin.site.register(LimitChange, ChangeAdmin)
    admin.site.register(Tenant, TenantAdmin)
    admin.site.register(Hold, HoldAdmin)
    admin.site.register(LedgerEntry, EventAdmin)
    admin.site.register(ApiKey, ApiKeyAdmin)
