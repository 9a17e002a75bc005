"""Settings of the example; the lines that add token-limit are marked."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("DEMO_DATA_DIR", BASE_DIR / ".demo"))

SECRET_KEY = "only-for-this-example"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "token_limit_django",  # token-limit: 1
    "chat",
]
MIDDLEWARE = [
    "token_limit_django.middleware.TokenLimitMiddleware",  # token-limit: 2
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TOKEN_LIMIT = {  # token-limit: 3
    "USER_TENANT_ATTRIBUTES": ["organization"],
    "UPGRADE_URL": "/plans/",
    # The demo's provider answers on loopback; this says what it is, so that it is priced.
    "HOSTS": {host: "openai" for host in [os.environ.get("DEMO_PROVIDER_HOST")] if host},
}

ROOT_URLCONF = "saas.urls"
WSGI_APPLICATION = "saas.wsgi.application"
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
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "db.sqlite3"}}
AUTH_USER_MODEL = "chat.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR.parent / "shared/static"]
USE_TZ = True
