"""The model behind LitServe: `python litserve_app.py`."""

import os

import litserve
import numpy as np
import onnxruntime


class Tiny(litserve.LitAPI):
    def setup(self, device):
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"])
        self.name = self.session.get_inputs()[0].name

    def decode_request(self, request):
        return np.asarray(request["inputs"], np.float32)

    def predict(self, x):
        return self.session.run(None, {self.name: x})[0]

    def encode_response(self, output):
        return {"outputs": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Tiny(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False)
