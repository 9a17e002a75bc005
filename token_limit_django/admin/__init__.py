"""The pages in Django's admin: those of the console below the entry "overview", and entries that lead to them.

The entries are of tables in the project's database, so they are not registered if TOKEN_LIMIT['STORE'] is set.
"""

from django.contrib import admin

from ..conf import settings
from ..models import Overview
from .entries import LEADS, EntryAdmin
from .pages import PagesAdmin

admin.site.register(Overview, PagesAdmin)
if settings.STORE is None:
    admin.site.register(list(LEADS), EntryAdmin)
