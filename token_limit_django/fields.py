"""Text columns that are compared exactly: MySQL's own ignore case and spaces at the end, other engines' do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

_Set = TypeVar("_Set", contravariant=True)
_Get = TypeVar("_Get", covariant=True)

if TYPE_CHECKING:

    class _CharField(models.CharField[_Set, _Get]): ...

else:

    class _CharField(models.CharField, Generic[_Set, _Get]): ...


class ExactTextField(_CharField[_Set, _Get]):
    """Text that is compared by its code points."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        """Give the column a binary collation on MySQL."""
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters


class TenantField(_CharField[_Set, _Get]):
    """A tenant's id, compared byte for byte; on MySQL it is kept as bytes, since `utf8mb4_bin` ignores final spaces."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        """Return bytes enough for any id on MySQL."""
        if connection.vendor == "mysql":
            assert self.max_length is not None
            return f"varbinary({4 * self.max_length})"
        return super().db_type(connection)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """Encode an id for MySQL."""
        value = super().get_db_prep_value(value, connection, prepared)
        return value.encode() if connection.vendor == "mysql" and isinstance(value, str) else value

    def from_db_value(self, value: Any, expression: object, connection: BaseDatabaseWrapper) -> Any:
        """Decode an id from MySQL."""
        return bytes(value).decode() if isinstance(value, (bytes, bytearray, memoryview)) else value


# The values of the models' columns, as a type checker without Django's plugin needs them.
AutoKey: TypeAlias = "models.BigAutoField[int, int]"
BigInt: TypeAlias = "models.BigIntegerField[int, int]"
BigIntOrNone: TypeAlias = "models.BigIntegerField[int | None, int | None]"
Bool: TypeAlias = "models.BooleanField[bool, bool]"
Float: TypeAlias = "models.FloatField[float, float]"
FloatOrNone: TypeAlias = "models.FloatField[float | None, float | None]"
Int: TypeAlias = "models.IntegerField[int, int]"
Json: TypeAlias = "models.JSONField[Any, Any]"
LongText: TypeAlias = "models.TextField[str, str]"
TenantText: TypeAlias = TenantField[str, str]
Text: TypeAlias = ExactTextField[str, str]
TextOrNone: TypeAlias = ExactTextField[str | None, str | None]
