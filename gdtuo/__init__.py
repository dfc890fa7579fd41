"""Gradient Descent: The Ultimate Optimizer (Chandra et al., NeurIPS 2022) for PyTorch."""

from gdtuo.ensemble import Ensemble as Ensemble
from gdtuo.errors import GdtuoError as GdtuoError
from gdtuo.further_rules import AdamW as AdamW
from gdtuo.further_rules import Lion as Lion
from gdtuo.further_rules import Muon as Muon
from gdtuo.further_rules import NAdam as NAdam
from gdtuo.history import History as History
from gdtuo.hyperparameters import Coordinates as Coordinates
from gdtuo.hyperparameters import Domain as Domain
from gdtuo.hyperparameters import constant as constant
from gdtuo.hyperparameters import finite as finite
from gdtuo.hyperparameters import hyperparameter as hyperparameter
from gdtuo.hyperparameters import log as log
from gdtuo.hyperparameters import logistic as logistic
from gdtuo.hyperparameters import logit as logit
from gdtuo.hyperparameters import non_negative as non_negative
from gdtuo.hyperparameters import positive as positive
from gdtuo.hyperparameters import positive_whole as positive_whole
from gdtuo.hyperparameters import raw as raw
from gdtuo.hyperparameters import square_root as square_root
from gdtuo.hyperparameters import stable_momentum as stable_momentum
from gdtuo.hyperparameters import unit_interval as unit_interval
from gdtuo.module_wrapper import ModuleWrapper as ModuleWrapper
from gdtuo.notation import parse as parse
from gdtuo.rule import Rule as Rule
from gdtuo.rule import State as State
from gdtuo.rule import Values as Values
from gdtuo.rules import SGD as SGD
from gdtuo.rules import AdaGrad as AdaGrad
from gdtuo.rules import Adam as Adam
from gdtuo.rules import RMSProp as RMSProp
from gdtuo.safeguards import Safeguards as Safeguards
from gdtuo.tower import Tower as Tower
from gdtuo.tuning_free import ScheduleFreeAdam as ScheduleFreeAdam
from gdtuo.tuning_free import Seek as Seek
from gdtuo.tuning_free import default as default

__version__ = "0.2.0"
