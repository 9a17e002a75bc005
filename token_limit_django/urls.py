"""The tenant's own page: `path("usage/", include("token_limit_django.urls"))`."""

from __future__ import annotations

from django.urls import URLPattern, path

from . import usage

app_name = "token_limit"
urlpatterns: list[URLPattern] = [
    path("", usage.page, name="usage"),
    path("usage.json", usage.data, name="usage_json"),
    path("console.css", usage.stylesheet, name="usage_css"),
    path("icon.svg", usage.icon, name="usage_icon"),
]
