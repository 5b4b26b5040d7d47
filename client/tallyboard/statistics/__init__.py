"""Statistics of a training: moving averages, running means, gradient norms, means of an epoch.

NumPy or numbers in, numbers out; each has a `state_dict` of plain NumPy and JSON for the checkpoint.
"""

from tallyboard.statistics.averages import ExponentialMovingAverage, RunningMean
from tallyboard.statistics.epochs import EpochTotals, epoch_step
from tallyboard.statistics.gradients import GradientNorms

__all__ = ["EpochTotals", "ExponentialMovingAverage", "GradientNorms", "RunningMean", "epoch_step"]
