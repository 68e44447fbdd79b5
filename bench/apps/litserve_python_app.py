"""The Python model behind LitServe: `python litserve_python_app.py`."""

import os

import litserve
from python_model import Loaded


class Linear(litserve.LitAPI):
    def setup(self, device):
        self.model = Loaded()

    def decode_request(self, request):
        return request["inputs"]

    def predict(self, x):
        return self.model.predict(x)

    def encode_response(self, output):
        return {"outputs": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Linear(), accelerator="cpu", workers_per_device=int(os.environ["BENCH_WORKERS"]))
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False)
