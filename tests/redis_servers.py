"""Redis servers of a test's own: one that can be killed and restarted, and a cluster of three."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from redis.cluster import ClusterNode, RedisCluster

from tests.servers import free_port
from tests.support import unavailable
from tests.waiting import PATIENCE, wait_until

SLOTS = 16384


class RedisServer:
    """A running server with its files in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = shutil.which("redis-server")
        if command is None:
            unavailable("redis-server is not installed")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        where = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder))
        self._words = [command, *where, *options]
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it answers with its data loaded."""
        self._process = subprocess.Popen(self._words, stdout=subprocess.DEVNULL)
        wait_until(self.answers, self._process)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=PATIENCE)

    def kill(self) -> None:
        """End the server as a crash does."""
        self._process.kill()
        self._process.wait()


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(folder, *options)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def redis_cluster(folder: Path) -> Iterator[str]:
    """Run a cluster of three nodes, and give the URL of a store in it, without its ledger."""
    with ExitStack() as stack:
        servers = []
        for number in range(3):
            files = folder / f"node-{number}"
            files.mkdir()
            bus = str(free_port())
            options = ("--cluster-enabled", "yes", "--cluster-port", bus, "--save", "", "--appendonly", "no")
            servers.append((stack.enter_context(redis_server(files, *options)), bus))
        share = SLOTS // 3 + 1
        for number, (server, _) in enumerate(servers):
            with server.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, min(SLOTS, (number + 1) * share) - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        with servers[0][0].client() as client:
            for other, bus in servers[1:]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, bus)
        wait_until(lambda: all(is_ready(server) for server, _ in servers))
        first = servers[0][0].port
        with RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", first)]) as client:
            assert len(client.get_primaries()) == 3
        yield f"redis+cluster://127.0.0.1:{first}"


def is_ready(server: RedisServer) -> bool:
    with server.client() as client:
        state = client.execute_command("CLUSTER INFO")  # a dict of texts
        return (state["cluster_state"], state["cluster_known_nodes"]) == ("ok", "3")
