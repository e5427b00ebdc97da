"""What can go wrong that has a name: errors stop a computation, warnings let it go on.

An error means that a certificate could be wrong or could not be made; a warning, that it would be
sound but hardly what was meant. `sampling.guards` looks for those that only the model itself shows.
"""


class IntegerInputError(ValueError):
  """The input has integer entries, to which no noise can be added."""


class NonFiniteInputError(ValueError):
  """The input has entries that are nan or infinite."""


class OffGridError(ValueError):
  """The input does not lie on the grid in whose steps noise is drawn."""


class MissingClassesError(ValueError):
  """`num_classes` is not the number of classes that the model returns."""


class SameKeyError(ValueError):
  """Two sample sets that must be independent would be drawn from one key."""


class NotDeterministicError(ValueError):
  """The model returns different logits for one input."""


class BatchDependenceError(ValueError):
  """The model's logits for one input depend on the inputs that it is evaluated with."""


class NaNLogitsError(ValueError):
  """The model returns logits that are not finite numbers."""


class NotLogitsError(ValueError):
  """The model returns something else than one array of logits, one row for every output."""


class TrainingModeError(ValueError):
  """The model cannot be evaluated as it is: dropout or batch statistics are in training mode."""


class FartherViewError(ValueError):
  """Some output of the model sees farther than it was said to."""


class OtherResultsError(ValueError):
  """A folder holds results of another job, which this one would replace."""


class FolderInUseError(ValueError):
  """Another job runs in the folder at this moment."""


class OtherProblemError(ValueError):
  """A certificate was proven for other weights, groups or thresholds than those given."""


class LostVotesWarning(UserWarning):
  """Some votes count for no class, because the logits were not finite."""


class TooFewSamplesWarning(UserWarning):
  """So few samples, or so small an alpha, that even unanimous votes certify nothing."""


class SameSamplesWarning(UserWarning):
  """Selection and estimation counted the very same votes: one key was used for both."""


class TrainingModeWarning(UserWarning):
  """Dropout, or the statistics of a batch, are still in training mode."""


class InputScaleWarning(UserWarning):
  """The input is not on the scale that the noise was given in."""


class TiedLogitsWarning(UserWarning):
  """Greatest logits are equal, so that the order of classes decides: too few bits, or constants."""
