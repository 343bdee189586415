"""The answers of a trained network for the images of a split: its errors, with pictures of the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnspec.data import Dataset
from cnnspec.kernels.step import Array
from cnnspec.report.chart import shown
from cnnspec.report.png import class_colours, mask_picture, picture
from cnnspec.target import VOID
from cnnspec.train.network import Network

MOST_IMAGES, FEWEST_IMAGES, MOST_WORK = 10_000, 200, 2e11  # images examined, and multiply-accumulates for them
LISTED = 32  # number of worst and of least certain images listed
MATRIX = 30  # classes up to which the matrix is drawn; of more, the commonest confusions are listed
CONFUSIONS = 50
CELL_PICTURES, ALL_CELLS = 24, 240  # pictures behind one cell, and behind all
TOP = 3  # classes whose probability is told


@dataclass(frozen=True, slots=True)
class Example:
    """One image of the split: its label, the network's answer, and pictures of it, with captions if several."""

    number: int
    pictures: tuple[str, ...]
    truth: str  # empty if `said` or a picture shows it
    said: tuple[tuple[str, ...], ...]  # a name and figures, the likeliest first
    right: bool | None = None  # None if an answer is neither right nor wrong
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry of the confusion matrix, or one of the most frequent confusions."""

    true: int
    predicted: int
    count: int
    level: int  # 0 to 4: how dark
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers for a split; fields that do not apply to its kind of target are empty."""

    split: str
    images: int
    of: int
    names: tuple[str, ...] = ()
    matrix: tuple[tuple[Cell, ...], ...] = ()
    confusions: tuple[Cell, ...] = ()
    headings: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    worst: tuple[Example, ...] = ()
    uncertain: tuple[Example, ...] = ()
    measure: str = ""  # the measure that selects the worst
    colours: tuple[str, ...] = ()  # colours of the classes of masks, for the style sheet


def answers(model: Network, dataset: Dataset, split: str, names: Sequence[str]) -> Answers:
    """Compute the network's answers for the images of a split; of very many images, for an even selection."""
    most = max(FEWEST_IMAGES, min(MOST_IMAGES, int(MOST_WORK / max(model.graph.macs, 1))))
    count = min(len(dataset), most)
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(np.int64)
    if model.learned.kind == "several":
        asked_of = Dataset(dataset.pixels[chosen], dataset.labels[chosen])
        return Answers(
            split, count, len(dataset), headings=("loss", "figure", "value"), table=_figures(model, asked_of)
        )
    questions = _Asked(model, chosen, dataset.pixels[chosen], dataset.labels[chosen], names)
    examples = {
        "classes": questions.labels_of_many,
        "values": questions.of_values,
        "mask": questions.of_masks,
        "input": questions.of_inputs,
    }.get(model.learned.kind, questions.of_classes)()
    return Answers(split, count, len(dataset), **examples)


def _figures(model: Network, dataset: Dataset) -> tuple[tuple[str, ...], ...]:
    """Return the figures of each loss, for a network with several targets."""
    parts = model.score(dataset).parts.items()
    rows = ((name, figure, value) for name, part in parts for figure, value in part.figures().items())
    return tuple((name, figure, shown(value)) for name, figure, value in rows if value is not None)


class _Asked:
    """Some images, their labels, and the network's outputs for them."""

    def __init__(self, model: Network, numbers: Array, pixels: Array, labels: Array, names: Sequence[str]) -> None:
        self.model, self.numbers, self.pixels, self.labels = model, numbers, pixels, labels
        self.outputs = model.outputs(pixels)
        width = max(self.outputs.shape[1], len(names)) if self.outputs.ndim > 1 else len(names)
        self.names = tuple(names) + tuple(str(number) for number in range(len(names), max(width, 2)))

    def of_classes(self) -> dict[str, Any]:
        probabilities = self.probabilities()
        truth = self.labels if self.labels.ndim == 1 else self.labels.argmax(axis=1)
        threshold = 0.5 if self.model.loss is None else self.model.loss.threshold
        single = self.outputs.shape[1] == 1
        predicted = (self.outputs[:, 0] > threshold).astype(np.int64) if single else self.outputs.argmax(axis=1)
        places = np.arange(len(truth))
        size = probabilities.shape[1]
        matrix = np.zeros((size, size), np.int64)
        np.add.at(matrix, (truth, predicted), 1)
        names = self.names[:size]

        def example(i: int) -> Example:
            likeliest = np.argsort(-probabilities[i], kind="stable")[:TOP].tolist()
            answers_shown = tuple((names[k], f"{probabilities[i, k]:.1%}") for k in likeliest)
            right = bool(predicted[i] == truth[i])
            return Example(int(self.numbers[i]), (picture(self.pixels[i]),), names[truth[i]], answers_shown, right)

        worst = np.argsort(probabilities[places, truth], kind="stable")[:LISTED].tolist()
        uncertain = np.argsort(probabilities.max(axis=1), kind="stable")[:LISTED].tolist()
        filled = int(np.count_nonzero(matrix))
        pictures = max(1, min(CELL_PICTURES, ALL_CELLS // max(filled, 1)))
        greatest = max(1, int((matrix * (1 - np.eye(size, dtype=np.int64))).max()))

        def cell(t: int, p: int) -> Cell:
            number = int(matrix[t, p])
            of = max(1, int(matrix[t].sum())) if t == p else greatest
            inside = np.flatnonzero((truth == t) & (predicted == p))
            order = inside[np.argsort(-probabilities[inside, p], kind="stable")][:pictures].tolist() if number else []
            return Cell(t, p, number, int(np.ceil(4 * number / of)), tuple(map(example, order)))

        drawn = size <= MATRIX
        wrong = matrix * (1 - np.eye(size, dtype=np.int64))
        commonest = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS].tolist()
        pairs = [divmod(place, size) for place in commonest if wrong.flat[place]]
        return {
            "names": names,
            "matrix": tuple(tuple(cell(t, p) for p in range(size)) for t in range(size)) if drawn else (),
            "confusions": () if drawn else tuple(cell(t, p) for t, p in pairs),
            **_per_class(names, np.diagonal(matrix), matrix.sum(axis=0), matrix.sum(axis=1)),
            "worst": tuple(map(example, worst)),
            "uncertain": tuple(map(example, uncertain)),
            "measure": "the least probability of the true class",
        }

    def probabilities(self) -> Array:
        """Return probabilities (n, classes); a single output is that of the second class, and 1 minus it the first."""
        loss = self.model.loss
        probabilities = self.outputs if loss is None else loss.probabilities(self.outputs.T).T
        return (
            np.concatenate([1 - probabilities, probabilities], axis=1)
            if probabilities.shape[1] == 1
            else np.asarray(probabilities)
        )

    def labels_of_many(self) -> dict[str, Any]:
        loss = self.model.loss
        probabilities = self.outputs if loss is None else loss.probabilities(self.outputs.T).T
        there, predicted = self.labels > 0.5, probabilities > 0.5
        names = self.names[: predicted.shape[1]]
        distance = np.abs(probabilities - there).sum(axis=1)

        def example(i: int) -> Example:
            truth = ", ".join(names[k] for k in np.flatnonzero(there[i])) or "no label"
            likeliest = np.argsort(-probabilities[i], kind="stable")[:TOP].tolist()
            answers_shown = tuple((names[k], f"{probabilities[i, k]:.1%}") for k in likeliest)
            right = bool((there[i] == predicted[i]).all())
            return Example(int(self.numbers[i]), (picture(self.pixels[i]),), truth, answers_shown, right)

        worst = np.argsort(-distance, kind="stable")[:LISTED].tolist()
        uncertain = np.argsort(np.abs(probabilities - 0.5).min(axis=1), kind="stable")[:LISTED].tolist()
        return {
            "names": names,
            **_per_class(names, (there & predicted).sum(axis=0), predicted.sum(axis=0), there.sum(axis=0)),
            "worst": tuple(map(example, worst)),
            "uncertain": tuple(map(example, uncertain)),
            "measure": "the sum over the labels of how far the probability is off",
        }

    def of_values(self) -> dict[str, Any]:
        labels, outputs = self.labels.astype(np.float64), self.outputs.astype(np.float64)
        error = np.abs(outputs - labels)
        spread = np.array(self.model.target.deviation or (1.0,) * error.shape[1])
        names = self.names[: error.shape[1]]

        def example(i: int) -> Example:
            rows = zip(names, labels[i].tolist(), outputs[i].tolist(), strict=True)
            answers_shown = tuple((name, f"{truth:.3g}", f"{value:.3g}") for name, truth, value in rows)
            return Example(int(self.numbers[i]), (picture(self.pixels[i]),), "", (("", "is", "said"), *answers_shown))

        worst = np.argsort(-(error / spread).max(axis=1), kind="stable")[:LISTED].tolist()
        squared = np.sqrt((error**2).mean(axis=0))
        rows = zip(names, error.mean(axis=0), squared, error.max(axis=0), strict=True)
        return {
            "headings": ("value", "mean error", "root mean square", "largest error"),
            "table": tuple((name, *map(shown, figures)) for name, *figures in rows),
            "worst": tuple(map(example, worst)),
            "measure": "the largest error, in deviations of the training values",
        }

    def of_masks(self) -> dict[str, Any]:
        several = self.outputs.shape[1] > 1
        threshold = 0.5 if self.model.loss is None else self.model.loss.threshold
        predicted = self.outputs.argmax(axis=1) if several else (self.outputs[:, 0] > threshold).astype(np.int64)
        classes = max(self.outputs.shape[1], 2)
        counted = self.labels != VOID
        truth, answers = self.labels[counted].astype(np.int64), predicted[counted]
        pairs = np.bincount(truth * classes + answers, minlength=classes**2)
        matrix = pairs[: classes**2].reshape(classes, classes)
        right = (predicted == self.labels).sum(axis=(1, 2)) / np.maximum(counted.sum(axis=(1, 2)), 1)

        def example(i: int) -> Example:
            pictures = picture(self.pixels[i]), mask_picture(self.labels[i]), mask_picture(predicted[i])
            answers_shown = (("right pixels", f"{right[i]:.1%}"),)
            return Example(int(self.numbers[i]), pictures, "", answers_shown, captions=("input", "truth", "answer"))

        names = self.names[:classes]
        scores = _per_class(names, np.diagonal(matrix), matrix.sum(axis=0), matrix.sum(axis=1), iou=True)
        worst = np.argsort(right, kind="stable")[:LISTED].tolist()
        colours = tuple(f"rgb({', '.join(map(str, colour))})" for colour in class_colours(np.arange(classes)).tolist())
        worst_examples = tuple(map(example, worst))
        return {**scores, "worst": worst_examples, "measure": "the portion of right pixels", "colours": colours}

    def of_inputs(self) -> dict[str, Any]:
        inputs = self.pixels.astype(np.float64)
        scale, shift = (np.asarray(part, np.float64).reshape(-1, 1, 1) for part in self.model.pixels or (1.0, 0.0))
        if inputs.ndim != 4 or self.outputs.shape != inputs.shape:
            return {}
        errors = np.square(self.outputs - (inputs * scale + shift)).mean(axis=(1, 2, 3))
        back = np.clip(np.rint((self.outputs - shift) / scale), 0, 255).astype(np.uint8)

        def example(i: int) -> Example:
            pictures = picture(self.pixels[i]), picture(back[i])
            answers_shown = (("squared error", shown(float(errors[i]))),)
            return Example(int(self.numbers[i]), pictures, "", answers_shown, captions=("input", "output"))

        worst = np.argsort(-errors, kind="stable")[:LISTED].tolist()
        figures = (float(errors.mean()), float(np.median(errors)), float(errors.max()))
        return {
            "headings": ("", "mean", "median", "largest"),
            "table": (("squared error", *map(shown, figures)),),
            "worst": tuple(map(example, worst)),
            "measure": "the mean squared error",
        }


def _per_class(
    names: Sequence[str], right: Array, predicted: Array, there: Array, *, iou: bool = False
) -> dict[str, Any]:
    def rows() -> Iterator[tuple[str, ...]]:
        for name, r, p, t in zip(names, right.tolist(), predicted.tolist(), there.tolist(), strict=True):
            figures = [r / p if p else None, r / t if t else None, 2 * r / (p + t) if p + t else None]
            figures += [r / (p + t - r) if p + t - r else None] if iou else []
            yield name, f"{t:,}", f"{p:,}", *("-" if figure is None else f"{figure:.1%}" for figure in figures)

    headings = ("class", "there", "predicted", "precision", "recall", "F1", *(["IoU"] if iou else []))
    return {"headings": headings, "table": tuple(rows())}
