"""Named architectures, each readable from top to bottom, and Sequential, of which they are made."""

from minidl.layers.configuration import register_layer
from minidl.models.bert import BERT, BERTConfig
from minidl.models.char_rnn import CharRNN
from minidl.models.clip import CLIP, CLIPConfig, ContrastiveLoss, classify_zero_shot
from minidl.models.config import from_config, load_model
from minidl.models.detr import DETR, Detections, DETRConfig
from minidl.models.ensemble import Ensemble
from minidl.models.gpt2 import GPT2, GPT2Config
from minidl.models.lenet import lenet
from minidl.models.mlp import mlp
from minidl.models.mobilenet import depthwise_separable, inverted_residual, mobilenet_v2
from minidl.models.pretrained import from_pretrained
from minidl.models.resnet import BasicBlock, resnet, resnet18, small_resnet
from minidl.models.sequential import Sequential
from minidl.models.summary import Summary
from minidl.models.tabular import TabularNetwork
from minidl.models.transformer import Transformer
from minidl.models.two_tower import NegativeSampling, TwoTower
from minidl.models.unet import unet
from minidl.models.vgg import small_vgg, vgg
from minidl.models.vit import ViT, ViTConfig

__all__ = [
    "BERT",
    "CLIP",
    "DETR",
    "GPT2",
    "BERTConfig",
    "BasicBlock",
    "CLIPConfig",
    "CharRNN",
    "ContrastiveLoss",
    "DETRConfig",
    "Detections",
    "Ensemble",
    "GPT2Config",
    "NegativeSampling",
    "Sequential",
    "Summary",
    "TabularNetwork",
    "Transformer",
    "TwoTower",
    "ViT",
    "ViTConfig",
    "classify_zero_shot",
    "depthwise_separable",
    "from_config",
    "from_pretrained",
    "inverted_residual",
    "lenet",
    "load_model",
    "mlp",
    "mobilenet_v2",
    "register_layer",
    "resnet",
    "resnet18",
    "small_resnet",
    "small_vgg",
    "unet",
    "vgg",
]
