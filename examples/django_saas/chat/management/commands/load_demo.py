"""Make two customers, their users, a support person, and a small limit to run into."""

from django.core.management import call_command
from django.core.management.base import BaseCommand

from chat.models import Organization, User
from token_limit_core.stores.queries import TenantQuery
from token_limit_django.meter import get_meter

PASSWORD = "demo"
LIMITS = {"acme": "0.003", "globex": "5"}


class Command(BaseCommand):
    """Load the demo data; harmless to run again."""

    help = __doc__

    def add_arguments(self, parser):
        """Add the option that fills the pages of the admin."""
        parser.add_argument("--crowd", action="store_true", help="add made-up tenants to a new database")

    def handle(self, *args, **options):
        """Create what is missing."""
        meter = get_meter()
        if options["crowd"] and not meter.store.tenants(TenantQuery(size=1), meter.config.clock()).total:
            call_command("token_limit_demo", "--tenants", "40", "--days", "45", "--events", "3000", stdout=self.stdout)
        for slug, name, username in (("acme", "Acme Ltd", "alice"), ("globex", "Globex Corp", "bob")):
            organization, _ = Organization.objects.get_or_create(slug=slug, defaults={"name": name})
            user, new = User.objects.get_or_create(username=username, defaults={"organization": organization})
            if new:
                user.set_password(PASSWORD)
                user.save()
            if not meter.limits(slug):
                meter.set_limit(slug, LIMITS[slug])
        if not User.objects.filter(username="support").exists():
            User.objects.create_superuser("support", password=PASSWORD)
