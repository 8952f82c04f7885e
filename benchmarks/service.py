"""How fast the service gives a summary: ``python benchmarks/service.py``.

Starts ``modelmeter serve`` on a free port with an empty store, makes one report, and asks for its summary from
several clients at once, each over one connection and as soon as it has its last answer. The target is a median
under 5 ms at 8 clients on loopback.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from statistics import median, quantiles

REQUEST = {
    "model_id": "deepseek-ai/DeepSeek-OCR",
    "model_variant": "deepseek-ocr-3b",
    "workload_profile_id": "dsocr-standard-v1",
}


def main() -> None:
    """Print the latency by number of clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=500, help="of each client")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "modelmeter", "serve", "--port", "0", "--store", store]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().partition(" (")[0].rpartition(":")[2])
            path = make_report(port)
            print("clients  requests/s  median ms  99% ms")
            for clients in options.clients:
                print(measure(port, path, clients, options.requests))
        finally:
            server.terminate()
            server.wait()


def make_report(port: int) -> str:
    """Make a report; gives the path of its summary."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/analytic/deepseek-ocr/run", json.dumps(REQUEST), {"Content-Type": "application/json"})
    path = f"/analytic/deepseek-ocr/{json.load(connection.getresponse())['report_id']}/summary"
    while True:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        if response.status == http.client.OK:
            return path
        time.sleep(0.1)


def measure(port: int, path: str, clients: int, requests: int) -> str:
    """One row of the table."""
    times: list[float] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        own = []
        for _ in range(requests):
            begin = time.perf_counter()
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            own.append(time.perf_counter() - begin)
            assert response.status == http.client.OK
        times.extend(own)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(times) / (time.perf_counter() - begin)
    assert len(times) == clients * requests
    return f"{clients:7}  {rate:10.0f}  {median(times) * 1e3:9.2f}  {quantiles(times, n=100)[-1] * 1e3:6.2f}"


if __name__ == "__main__":
    main()
