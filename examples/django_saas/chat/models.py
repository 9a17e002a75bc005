"""Two models: who pays (Organization) and who asks (User)."""

from django.contrib.auth.models import AbstractUser
from django.db import models


class Organization(models.Model):
    """A customer; its primary key is the tenant id."""

    slug = models.SlugField(primary_key=True)
    name = models.CharField(max_length=100)

    def __str__(self):
        return self.name


class User(AbstractUser):
    """A person who signs in and chats on the organization's bill."""

    organization = models.ForeignKey(Organization, null=True, blank=True, on_delete=models.CASCADE)
