"""A small OpenAI-compatible server on a real socket, faulty on purpose.

What a question meets is read off its words, so that a test knows every reply
beforehand.  Every completion that is sent is written down: it was paid for.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = "judge-1"
# Shares, in hundredths, of questions that meet each fault; 30 in all.
SHARES = {
    "429": 4, "500": 3, "timeout": 2, "dropped": 3, "nonsense": 2,  # pass after a few requests
    "down": 4,  # never answered but by 500
    "empty": 4, "truncated": 4, "garbage": 3, "filtered": 1,  # answered, but not with a verdict
}  # fmt: skip
PASSING = ("429", "500", "timeout", "dropped", "nonsense")
OUTCOMES = {"down": "failed", "empty": "failed", "truncated": "unparsed", "garbage": "unparsed",
            "filtered": "refused"}  # fmt: skip


def dice(question, sides):
    """Throw a die that always falls alike for one question."""
    return int(hashlib.blake2b(question.encode()).hexdigest()[:8], 16) % sides


def fault_of(question):
    """Say what a question meets; "" for nothing."""
    roll = dice(question, 100)
    for fault, share in SHARES.items():
        if roll < share:
            return fault
        roll -= share
    return ""


def verdict_of(question):
    """Give the verdict that the judge has of a question: A, B or C (a tie)."""
    return "ABC"[dice("verdict " + question, 3)]


def completion(text, stop="stop"):
    """Give the body of a chat completion."""
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": MODEL + "-2026",
        "choices": [{"index": 0, "finish_reason": stop,
                     "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Answers chat completions, and fails as the question's words say."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Answer one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.answer(self, body)

    def send(self, status, body, **headers):
        """Send a JSON body, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def drop(self, after=b""):
        """Close the connection, in the middle of an answer where some bytes are given."""
        if after:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(after) + 100))
            self.end_headers()
            self.wfile.write(after)
            self.wfile.flush()
        self.close_connection = True

    def log_message(self, *args):
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Counts requests and what was paid for; ``answer`` decides.

    patience  seconds after which the client gives a request up.
    paid      file that gets one line a completion, whoever asked.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, paid=None, patience=0.5, decide=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.requests = []  # (question, body, headers)
        self.seen = {}
        self.paid_file = paid
        self.patience = patience
        self.decide = decide
        self.delay = 0.0
        self.busy = self.busiest = 0

    @property
    def url(self):
        """The base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        """A client that went away is no news."""

    def answer(self, handler, body):
        """Answer one request, or fail as the question's words say."""
        question = body["messages"][-1]["content"]
        with self.lock:
            self.requests.append((question, body, dict(handler.headers)))
            self.seen[question] = self.seen.get(question, 0) + 1
            count = self.seen[question]
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        try:
            if self.decide is not None:
                self.decide(handler, body, count)
            else:
                self._faulty(handler, question, count)
        finally:
            with self.lock:
                self.busy -= 1

    def pay(self, handler, question, body):
        """Send a completion and write down that it was paid for."""
        if self.paid_file is not None:
            line = (hashlib.blake2b(question.encode()).hexdigest() + "\n").encode()
            with self.lock, open(self.paid_file, "ab", buffering=0) as file:
                file.write(line)
        handler.send(200, body)

    def _faulty(self, handler, question, count):
        fault = fault_of(question)
        time.sleep(self.delay)
        if fault in PASSING and count <= 1 + dice("times " + question, 2):
            if fault == "429":
                handler.send(429, {"error": {"message": "slow down"}}, Retry_After="0.001")
            elif fault == "500":
                handler.send(500, {"error": {"message": "oops"}})
            elif fault == "timeout":
                time.sleep(2 * self.patience)
                handler.drop()
            elif fault == "nonsense":
                handler.send(200, (b"<html>Welcome</html>", b'{"ok": true}')[count % 2])
            else:
                handler.drop(b'{"id": "1", "choi' if dice("half " + question, 2) else b"")
        elif fault == "down":
            handler.send(500, b"<html>Bad gateway</html>")
        elif fault == "empty":
            self.pay(handler, question, completion(""))
        elif fault == "truncated":
            self.pay(handler, question, completion("My considered verd", "length"))
        elif fault == "garbage":
            self.pay(handler, question, completion("\x00 lorem {{ ipsum"))
        elif fault == "filtered":
            error = {"message": "content management policy", "code": "content_filter"}
            handler.send(400, {"error": error})
        else:
            self.pay(handler, question, completion(f"The verdict is {verdict_of(question)}."))


def serve(server):
    """Serve in a thread until the server is shut down."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    return thread


def paid(file):
    """Count completions by question."""
    return Counter(Path(file).read_text().split()) if Path(file).exists() else Counter()
