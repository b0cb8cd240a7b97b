"""Trainings on a grid without a run record."""

from lib.adaptive_teachers.deceptive_grid import DeceptiveGrid
from lib.adaptive_teachers.grid_methods import GridRun
from lib.adaptive_teachers.stacked_training import GridTask, StackedTraining
from lib.training import plain_trainer


def train_bare(grid: DeceptiveGrid, runs: list[GridRun], task: GridTask) -> StackedTraining:
    """Train one stack to its end."""
    module = StackedTraining(grid, runs, task)
    plain_trainer(grid.device, max_steps=-1, max_epochs=1).fit(module)
    module.to(grid.device).finish()
    return module
