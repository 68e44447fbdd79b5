"""The model behind KServe's own Python server."""

import os

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Tiny(Model):
    def __init__(self) -> None:
        super().__init__("tiny")
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"])
        self.input = self.session.get_inputs()[0].name
        self.ready = True

    async def predict(self, payload: InferRequest, headers: object = None, response_headers: object = None) -> object:
        rows = payload.inputs[0].as_numpy()
        answer = self.session.run(None, {self.input: rows})[0]
        output = InferOutput("probabilities", list(answer.shape), "FP32", data=answer.ravel().tolist())
        return InferResponse(payload.id, "tiny", [output])


if __name__ == "__main__":
    ModelServer(http_port=int(os.environ["BENCH_PORT"]), enable_grpc=False).start([Tiny()])
