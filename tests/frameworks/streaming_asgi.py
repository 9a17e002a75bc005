"""The streaming service in Django for servers that know no factories."""

from __future__ import annotations

from .streaming import django_asgi

app = django_asgi()
