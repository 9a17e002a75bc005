"""Tests as a user of the app writes them; Django's own runner runs them, in a project of its own."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import TestCase, TransactionTestCase, override_settings
from django.urls import path

from token_limit_django.meter import get_store

from .host import COST, call, in_thread, limit, on_loop, state, write

ONCE = {"calls": 1, "settled": COST, "held": 0, "holds": 0}
TWICE = {"calls": 2, "settled": 2 * COST, "held": 0, "holds": 0}


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(call())


async def aview(request: HttpRequest) -> HttpResponse:
    return HttpResponse(" ".join(await on_loop()))


urlpatterns = [path("view", view), path("aview", aview)]


class Eager(TestCase):
    """With EAGER on: everything happens in the test's own transaction, and is gone after it."""

    @classmethod
    def setUpTestData(cls) -> None:
        limit()

    def test_a_call_is_seen(self) -> None:
        assert call() == "stored"
        assert state() == ONCE

    def test_a_call_of_another_test_is_not(self) -> None:
        assert call() == "stored"
        assert state() == ONCE

    def test_the_project_goes_on_in_the_same_transaction(self) -> None:
        with transaction.atomic():
            write("before")
            call()
            write("after")
        assert ContentType.objects.filter(app_label="host").count() == 2
        assert state() == ONCE

    def test_what_the_project_rolls_back_takes_the_call_with_it(self) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            call()
            raise ZeroDivisionError
        assert state()["calls"] == 0

    def test_views(self) -> None:
        assert self.client.get("/view").content == b"stored"
        assert state() == ONCE

    def test_async_views_under_the_sync_client(self) -> None:
        assert self.client.get("/aview").content == b"stored stored"
        assert state() == TWICE

    async def test_async_views(self) -> None:
        response = await self.async_client.get("/aview")
        assert response.content == b"stored stored"
        assert await get_store().run_async(state) == TWICE

    async def test_coroutines(self) -> None:
        assert await on_loop() == ["stored", "stored"]
        assert await get_store().run_async(state) == TWICE


class OwnConnection(TransactionTestCase):
    """Without EAGER: the store's own alias has a test database like any other."""

    databases = "__all__"

    def setUp(self) -> None:
        limit()

    def test_a_call_outlives_a_rollback(self) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            write("lost")
            call()
            raise ZeroDivisionError
        assert state() == ONCE

    def test_a_call_of_another_test_is_not_seen(self) -> None:
        call()
        assert state() == ONCE

    def test_threads_find_the_same_tables(self) -> None:
        assert in_thread()[0] == "stored"
        assert state() == ONCE

    async def test_async_views(self) -> None:
        response = await self.async_client.get("/aview")
        assert response.content == b"stored stored"
        assert await get_store().run_async(state) == TWICE


class OwnTransaction(TestCase):
    """Without EAGER, in a test that is rolled back on the store's own alias, too."""

    databases = "__all__"

    def test_settings_that_change_leave_the_transaction_open(self) -> None:
        limit()
        with override_settings(TOKEN_LIMIT={**settings.TOKEN_LIMIT, "DEFAULT_LIMIT_USD": 1}):
            assert call() == "stored"
        assert state() == ONCE
