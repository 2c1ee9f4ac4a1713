"""Training: ``compile``, ``fit``, ``evaluate`` and ``predict``, callbacks, and the history of a training."""

from minidl.training.callbacks import Callback, CSVLogger, GradientClipping, LambdaCallback, LearningRateScheduler
from minidl.training.history import History
from minidl.training.parallel import DataParallel
from minidl.training.trainable import Trainable
from minidl.training.watchers import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from minidl.training.watching import Report

__all__ = [
    "CSVLogger",
    "Callback",
    "DataParallel",
    "EarlyStopping",
    "GradientClipping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "Report",
    "Trainable",
]
