"""The URLs of a Django project that takes reports."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("token-limit/", include("token_limit_django.ingest"))]
