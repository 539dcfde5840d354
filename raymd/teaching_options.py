"""How students teach each other, beyond the method's name: options of the whole run.

Enters: flags, YAML or Python, by way of FitConfig, which inherits these fields. Leaves: values for
resolve.py, which fills in what was left open, from the recipe or teaching.Teaching's defaults. A
new option of teaching is a field here, one of Teaching, and its use.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from raymd.distillation.formats import SoftLabelDtype
from raymd.distillation.methods import Weights
from raymd.fields import about


@dataclass(frozen=True, kw_only=True)
class TeachingOptions:
    """Options of teaching; None leaves one to the recipe, or to the default named in its text."""

    weights: Weights | None = field(
        default=None,
        metadata=about(
            "how a teacher's members are weighted: by held-out accuracy (Eq. 8; md and fmd), all"
            " alike (the other methods), or by 1 / held-out loss; default: the method's"
        ),
    )
    teacher: Literal["stored", "live"] | None = field(
        default=None,
        metadata=about(
            "stored: soft labels that students published; live: their published weights, which"
            " each student evaluates on its own crops"
        ),
    )
    views: int | None = field(
        default=None,
        metadata=about(
            "publish soft labels of so many augmented views of each image, and train on just those"
            " in distillation; 0: of the clean image",
            minimum=0,
            maximum=1000,
        ),
    )
    soft_labels: str | None = field(
        default=None,
        metadata=about(
            "what of a published row is kept: dense, all probabilities; top_k:K, the K highest, the"
            " other classes sharing what remains evenly"
        ),
    )
    soft_label_dtype: SoftLabelDtype | None = field(
        default=None, metadata=about("in which precision soft labels are published and kept")
    )
    publish: Literal["weights", "ema"] | None = field(
        default=None,
        metadata=about("what soft labels come from: a student's weights, or their average (--ema)"),
    )
    correct_only: bool | None = field(
        default=None,
        metadata=about("where a teacher's top class is wrong, keep to the label alone"),
    )
    alpha_floor: float | None = field(
        default=None,
        metadata=about("least weight of the labels in distillation", minimum=0, maximum=1),
    )
    kd_ramp: int | None = field(
        default=None,
        metadata=about("cycles over which distillation comes in gradually", minimum=0),
    )
    kd_until: str | None = field(
        default=None,
        metadata=about(
            "train independently after so many epochs, or from the last_drop of the rate; or never"
        ),
    )
    refresh_epochs: int | None = field(
        default=None, metadata=about("epochs that codistill keeps a teacher", minimum=1)
    )
    dml_update: Literal["sequential", "simultaneous"] | None = field(
        default=None,
        metadata=about(
            "dml: students are updated one after the other, each against what the others predict"
            " by then (its Algorithm 1), or all at once"
        ),
    )
    data_split: Literal["full", "disjoint"] | None = field(
        default=None,
        metadata=about("train each student on all images, or on a part of its own (EC-DNN's)"),
    )
    relabel_fraction: float | None = field(
        default=None,
        metadata=about(
            "part of a student's images that its teacher labels in each cycle", above=0, maximum=1
        ),
    )
    loss_scale: float | None = field(
        default=None,
        metadata=about("multiply the whole loss; 2: independent with md's alpha + beta", above=0),
    )


TEACHING = tuple(entry.name for entry in dataclasses.fields(TeachingOptions))
