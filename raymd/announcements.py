"""What is said of the choices that a recipe took, so that nothing has to be guessed.

Enters: what the user said and the Settings that came of it. Leaves: one line for each choice worth
knowing, and warnings.
"""

from collections.abc import Iterable, Iterator

from raymd.config import FitConfig
from raymd.recipes import FEW_SAMPLES, Recipe
from raymd.settings import Settings, StudentConfig
from raymd.student_options import OPTIONS
from raymd.view.text import count_of

FINETUNE = "finetune"
FEW_STEPS, LEAST_BATCH = 20, 8


def announcements(
    config: FitConfig, settings: Settings, recipe: Recipe, *, num_samples: int
) -> list[str]:
    """One line for each choice worth knowing.

    Args:
        config: What the user said, and no more.
        settings, recipe: What came of it.
        num_samples: Training images, after ``subset``.
    """
    lines = [
        *_recipe_lines(config, settings, recipe),
        *_schedule_lines(settings),
        *_weights_lines(config, settings, recipe),
        *_few_steps_lines(config, settings, num_samples),
    ]
    if config.val_fraction is None:
        side = "below" if num_samples < FEW_SAMPLES else "from"
        lines.append(
            f"val_fraction {settings.val_fraction:g}: {side} {FEW_SAMPLES:,} training images"
        )
    return lines


def _recipe_lines(config: FitConfig, settings: Settings, recipe: Recipe) -> Iterator[str]:
    """One line with all that the recipe chose, so that what has no flag on it is seen too."""
    chosen = [
        f"{name} {getattr(settings, name)}" for name in recipe.run if getattr(config, name) is None
    ]
    for name in OPTIONS:
        by_recipe = [
            student
            for student in settings.students
            if name not in config.options_of(student.id)
            and name in recipe.options(student.arch, optimizer=student.optimizer)
        ]
        if by_recipe:
            chosen.append(f"{name} {_by_student(by_recipe, name)}")
    if chosen:
        yield f"recipe '{recipe.name}' ({recipe.about}): {', '.join(chosen)}; flags change each"


def _weights_lines(config: FitConfig, settings: Settings, recipe: Recipe) -> Iterator[str]:
    """Trained weights are lost at the rates that random ones need; say so where it is asked for."""
    for student in settings.students:
        trained = student.pretrained or student.init_from is not None
        lr_said = "lr" in config.options_of(student.id)
        usual = recipe.options(student.arch, optimizer=student.optimizer, trained_weights=True)
        if trained and lr_said and student.lr > 3 * usual["lr"]:
            yield (
                f"warning: {student.id} begins with trained weights, and a learning rate of"
                f" {student.lr:g} may throw them away; {usual['lr']:g} is usual (--lr)"
            )
        if trained and not lr_said and recipe.name != FINETUNE:
            yield (
                f"{student.id} begins with trained weights: lr {student.lr:g}, lower than"
                f" random weights take (--lr; --recipe {FINETUNE} has a short budget for it)"
            )
    if recipe.name == FINETUNE and not any(s.pretrained or s.init_from for s in settings.students):
        yield (
            f"warning: recipe {FINETUNE!r} is for trained weights, and no student begins with any"
            " (--pretrained, --init_from)"
        )


def _few_steps_lines(config: FitConfig, settings: Settings, num_samples: int) -> Iterator[str]:
    """A recipe's batch size is meant for its data: on a few hundred images it makes few steps."""
    for student in settings.students:
        steps = -(-num_samples // student.batch_size)
        if steps >= FEW_STEPS or "batch_size" in config.options_of(student.id):
            continue
        batch_size = max(LEAST_BATCH, num_samples // FEW_STEPS)
        lr = student.lr * batch_size / student.batch_size
        yield (
            f"warning: {student.id} has {count_of(steps, 'step')} an epoch of {num_samples:,}"
            f" images; smaller batches and a lower rate fit better, such as"
            f" --batch_size {batch_size} --lr {lr:.1g}"
        )
        return  # one line for all students


def _by_student(students: Iterable[StudentConfig], name: str) -> str:
    values = {student.arch: _text(getattr(student, name)) for student in students}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return " / ".join(f"{value} ({arch})" for arch, value in values.items())


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _schedule_lines(settings: Settings) -> Iterator[str]:
    method = settings.teaching()
    if not method.distils:
        return
    schedule = settings.schedule()
    if method.exchanges and not schedule.barriers:
        yield (
            f"epochs {settings.epochs}: all of them independent, as the first distillation phase"
            f" would begin after {settings.tin} (--epochs, --tin)"
        )
    drop = schedule.first_drop_inside_distillation() if method.students_publish else None
    if drop is not None and any(s.lr_schedule == "step" for s in settings.students):
        yield (
            f"warning: the learning rate drops at epoch {drop + 1}, inside a distillation phase,"
            " whose teacher is from before it (--lr_drop cycle, or epochs a multiple of"
            f" {4 * (settings.tin + settings.td)})"
        )
