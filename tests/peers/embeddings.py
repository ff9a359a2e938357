"""Serves sentence embeddings as one would without gw: FastAPI, uvicorn, ONNX Runtime.

usage: embeddings.py MODEL.onnx TOKENIZER.json

Prints a line "listening on URL" and answers POST /embed, whose body and answer are those of
examples/01-embed: {"input": text, or a list of texts} and {"embeddings": [[…], …]}. One worker;
the endpoint is a plain function, which FastAPI runs in its pool of threads.
"""

import socket
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

# As the plugin cuts texts.
TOKENS_MAX = 512

model, tokenizer_file = sys.argv[1:]
tokenizer = Tokenizer.from_file(tokenizer_file)
tokenizer.enable_truncation(TOKENS_MAX)
tokenizer.enable_padding()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Request(BaseModel):
    input: str | list[str]


class Answer(BaseModel):
    embeddings: list[list[float]]


@app.post("/embed")
def embed(request: Request) -> Answer:
    texts = [request.input] if isinstance(request.input, str) else request.input
    encodings = tokenizer.encode_batch(texts)
    ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
    mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(["last_hidden_state"], feeds)
    sums = (hidden * mask[:, :, None]).sum(axis=1)
    means = sums / mask.sum(axis=1, keepdims=True)
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    return Answer(embeddings=unit.tolist())


def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


main()
