"""Make two customers, their users, a support person, and a small limit to run into."""

from django.core.management.base import BaseCommand

from chat.models import Organization, User
from token_limit_django.meter import get_meter

PASSWORD = "demo"
LIMITS = {"acme": "0.003", "globex": "5"}


class Command(BaseCommand):
    """Load the demo data; harmless to run again."""

    help = __doc__

    def handle(self, *args, **options):
        """Create what is missing."""
        for slug, name, username in (("acme", "Acme Ltd", "alice"), ("globex", "Globex Corp", "bob")):
            organization, _ = Organization.objects.get_or_create(slug=slug, defaults={"name": name})
            user, new = User.objects.get_or_create(username=username, defaults={"organization": organization})
            if new:
                user.set_password(PASSWORD)
                user.save()
            if not get_meter().limits(slug):
                get_meter().set_limit(slug, LIMITS[slug])
        if not User.objects.filter(username="support").exists():
            User.objects.create_superuser("support", password=PASSWORD)
