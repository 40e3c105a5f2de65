# SPDX-License-Identifier: Apache-2.0
"""A server of Python, a thread a connection, whose native calls crash on request: GET /null reads from nowhere, /call goes
there, /abort ends the process; anything else is answered. Its port goes into the file that it is told."""
import ctypes
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"well"
        if self.path == "/null":
            body = ctypes.string_at(0)
        if self.path == "/call":
            ctypes.CFUNCTYPE(ctypes.c_int)(0)()
        if self.path == "/abort":
            os.abort()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(server.server_port))
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
