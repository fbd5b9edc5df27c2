"""What happened during training, as JSON lines for us and TensorBoard files for its viewer."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from sfumato.storage import write_text
from sfumato.training.loop import Progress

STEPS_PER_ROW = 10


class History:
    """Writes a row every ten steps, and at every validation.

    A row holds the mean losses of the steps since the row before it.

    Args:
        path: The JSON-lines file; rows that an interrupted training wrote after its
            checkpoint are taken out.
        tensorboard: Folder of TensorBoard files.
        step: Steps done before, by the training that is resumed; 0 for a new one.
    """

    def __init__(self, path: Path, tensorboard: Path, step: int) -> None:
        rows = [row for row in read_history(path) if row["step"] <= step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(tensorboard), purge_step=step + 1 if step else None)
        self._pending: list[Progress] = []

    def __enter__(self) -> "History":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._board.close()

    def add(self, progress: Progress) -> None:
        """Note a step."""
        self._pending.append(progress)
        is_last = progress.fraction >= 1
        if progress.step % STEPS_PER_ROW and progress.dice is None and not is_last:
            return
        row = _row(self._pending)
        self._pending = []
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in row.items():
            if name == "dice":
                for class_name, dice in value.items():
                    self._board.add_scalar(f"dice/{class_name}", _number(dice), progress.step)
            elif name != "step":
                self._board.add_scalar(name, _number(value), progress.step)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a history; a last line that was cut short is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _row(steps: Sequence[Progress]) -> dict[str, Any]:
    last = steps[-1]
    row: dict[str, Any] = {
        "step": last.step,
        "elapsed_seconds": round(last.elapsed_seconds, 3),
        "learning_rate": last.learning_rate,
        "loss_hard": _mean([p.loss_hard for p in steps]),
        "loss_soft": _mean([p.loss_soft for p in steps]),
        "loss_total": _mean([p.loss_total for p in steps]),
    }
    if last.dice is not None:
        row["dice"] = {name: _null(value) for name, value in last.dice.items()}
        row["mean_dice"] = _null(last.mean_dice)
    return row


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _null(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
