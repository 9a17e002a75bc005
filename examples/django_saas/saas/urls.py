"""The example's pages."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from chat import views

urlpatterns = [
    path("", views.page, name="chat"),
    path("send/", views.send, name="send"),
    path("usage/", views.usage, name="usage"),
    path("plans/", views.plans, name="plans"),
    path("login/", LoginView.as_view(template_name="chat/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]
