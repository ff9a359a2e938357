"""One mistake for each path; the tests know the lines."""

import os

from gw_sdk import Graph, Request, Tensor, fetch, handler


def compute_double(values: Tensor) -> list[float]:
    outputs = Graph.load("double").compute({"x": values})
    return outputs.read("y").data.tolist()


@handler
def answer(request: Request) -> object:
    match request.path:
        case "/right":
            return compute_double(Tensor([1, 4], [1, 2, 3, 4], "fp32"))
        case "/list":
            return compute_double([1, 2, 3, 4])
        case "/type":
            return compute_double(Tensor([1, 4], [1, 2, 3, 4], "i64"))
        case "/shape":
            return Tensor([1, 4], [1, 2, 3], "fp32")
        case "/grant":
            return Graph.load("triple")
        case "/host":
            return fetch("http://example.com/")
        case "/undefined":
            return {}["a"]
        case "/recursion":
            return answer(request)
        case "/memory":
            taken = []
            while True:
                taken.append(bytearray(32 << 20))
        case "/abort":
            os.abort()
        case "/endless":
            while True:
                pass
