"""The Django project the tests run in: SQLite in files of its own, as a small site would have it."""

from __future__ import annotations

import tempfile
from pathlib import Path

_directory = tempfile.TemporaryDirectory(prefix="token-limit-tests-")
_path = Path(_directory.name)

SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.django_urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _path / "db.sqlite3",
        "TEST": {"NAME": str(_path / "test.sqlite3")},  # a file: threads lock each other out of one in memory
    }
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "token_limit_django",
]
MIDDLEWARE = [
    "token_limit_django.middleware.TokenLimitMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STATIC_URL = "static/"
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}  # Django 6.1 warns without
TOKEN_LIMIT = {"ENABLED": False}  # tests of other things call the SDKs, too; the project's hook them where they say so
