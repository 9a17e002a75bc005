"""A receiver of webhooks that verifies signatures: `python -m tests.remote.hooks PORT FILE SECRET`.

It appends each genuine body to the file, one a line.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from token_limit_core import verify_signature


class Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        genuine = verify_signature(body, self.headers["X-Token-Limit-Signature"], SECRET)
        if genuine:
            with FILE.open("ab") as file:
                file.write(body + b"\n")
        self.send_response(200 if genuine else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    PORT, FILE, SECRET = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    HTTPServer.request_queue_size = 64
    HTTPServer(("127.0.0.1", PORT), Hook).serve_forever()
