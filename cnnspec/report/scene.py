"""Draws a network's picture as SVG: rows of boxes from top to bottom, in nested frames, with columns if it is long.

Within a frame the row of an item is the length of the longest path to it. Arrows to the next row are straight; those
that skip rows run down a lane at the frame's right side. A long frame without such arrows continues in a further
column; arrows into the next column run through the gap between the columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

from cnnspec.report.outline import Arrow, Box, Outline, chain_of, parent

LETTER, LINE = 6.2, 15  # width and height of 11 px text
GAP, ROW, PAD, LANE = 18, 34, 14, 58  # between neighbours, between rows, inside a frame, for an arrow that skips
TITLE = 22  # height of a frame's name
COLUMN = 2400  # height at which a frame continues in a further column
OUTSIDE = ""
COLOURS = {
    "conv": "#cfe3f7",
    "dens": "#f7d9c4",
    "dept": "#cfe3f7",
    "sepa": "#cfe3f7",
    "batc": "#e4e0f2",
    "max_": "#d5ecd4",
    "avg_": "#d5ecd4",
    "glob": "#d5ecd4",
    "adap": "#d5ecd4",
    "add": "#f8e9b0",
    "mult": "#f8e9b0",
    "inpu": "#e6e6e6",
}
STYLE = """
text{font-family:Helvetica,Arial,sans-serif;font-size:11px;fill:#222}
.name{fill:#505050}.shape{fill:#4a6785;font-size:10px}.frame{font-size:11px;fill:#666}
path{fill:none;stroke:#7a8794;stroke-width:1.2}
"""


@dataclass
class Area:
    """A rectangle; for a frame also the places of everything in it by name, relative to its corner."""

    width: float
    height: float
    parts: dict[str, tuple[float, float]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    lanes: list[tuple[str, str]] = field(default_factory=list)  # arrows that skip rows, and the order of their lanes


def as_svg(outline: Outline) -> str:
    """Return the picture as the text of an SVG file."""
    return _Scene(outline).draw()


class _Scene:
    def __init__(self, outline: Outline) -> None:
        self.outline = outline
        self.boxes = {box.name: box for box in outline.boxes}
        frames = frozenset(outline.frames)
        self.chains = {frame: ["", *chain_of(frame, frames)] for frame in ("", *outline.frames)}
        self.areas: dict[str, Area] = {}
        self.columns: dict[str, int] = {}
        self.corners: dict[str, tuple[float, float]] = {}
        self.arrange("")
        self.place("", 0, 0)

    def item_of(self, box: str, frame: str) -> str | None:
        """Return the item of a frame that contains a box: the box itself or an inner frame; None if none does."""
        chain = self.chains[self.boxes[box].frame]
        if frame not in chain:
            return None
        place = chain.index(frame) + 1
        return f"frame {chain[place]}" if place < len(chain) else box

    def arrange(self, frame: str) -> Area:
        """Place everything in a frame, inner frames first, and return its area."""
        items = [f"frame {item}" if isinstance(item, str) else item.name for item in self.outline.inside[frame]]
        sizes = {name: self.arrange(name[6:]) if name.startswith("frame ") else self.size(name) for name in items}
        links = {
            (source, target)
            for arrow in self.outline.arrows
            if (source := self.item_of(arrow.source, frame)) and (target := self.item_of(arrow.target, frame))
            if source != target
        }
        rows = dict.fromkeys(items, 0)
        for name in items:  # in the graph's order, so that what comes before is done
            rows[name] = max((rows[source] + 1 for source, target in links if target == name), default=0)
        # values from outside that do not enter at the top, such as a shortcut
        entries = {
            (OUTSIDE, target)
            for arrow in self.outline.arrows
            if self.item_of(arrow.source, frame) is None and (target := self.item_of(arrow.target, frame))
            if rows[target] > 0 and arrow.target == target
        }
        skips = [link for link in links if rows[link[1]] - rows[link[0]] > 1]
        lanes = sorted([*skips, *entries], key=lambda link: (rows.get(link[0], -1), rows[link[1]]))
        area = Area(0, 0, rows=rows, lanes=lanes)
        self.areas[f"frame {frame}" if frame else ""] = area
        self.stack(area, items, sizes, top=TITLE + PAD if frame else PAD)
        return area

    def stack(self, area: Area, items: list[str], sizes: dict[str, Area], *, top: float) -> None:
        left, right, y, column, lowest = float(PAD), float(PAD), top, 0, top
        side = LANE * len(area.lanes)
        made: list[tuple[list[str], float, float]] = []  # rows of the current column: names, y, width

        def close() -> None:
            inner = right - left
            for names, at, width in made:
                x = left + (inner - width) / 2
                for name in names:
                    area.parts[name] = (x, at)
                    x += sizes[name].width + GAP

        for row in sorted(set(area.rows.values())):
            names = [name for name in items if area.rows[name] == row]
            width = sum(sizes[name].width for name in names) + GAP * (len(names) - 1)
            height = max(sizes[name].height for name in names)
            if made and y + height > COLUMN and not area.lanes:
                close()
                left, y, made, column = right + 2 * LANE, top, [], column + 1
                right = left
            made.append((names, y, width))
            self.columns.update(dict.fromkeys(names, column))
            right, y = max(right, left + width), y + height + ROW
            lowest = max(lowest, y - ROW)
        close()
        area.width, area.height = right + PAD + (0 if column else side), lowest + PAD

    def size(self, name: str) -> Area:
        lines = _lines(self.boxes[name])
        return Area(max(len(line) for line in lines) * LETTER + 18, len(lines) * LINE + 9)

    def place(self, frame: str, x: float, y: float) -> None:
        area = self.areas[f"frame {frame}" if frame else ""]
        for name, (dx, dy) in area.parts.items():
            self.corners[name] = (x + dx, y + dy)
            if name.startswith("frame "):
                self.place(name[6:], x + dx, y + dy)

    def draw(self) -> str:
        area = self.areas[""]
        width, height = area.width + PAD, area.height + PAD
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}">',
            f"<title>{escape(self.outline.name)}</title><style>{STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L8 4L0 8z" style="fill:#7a8794;stroke:none"/></marker></defs>',
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
            *(self.frame(frame) for frame in self.outline.frames),
            *(part for arrow in self.outline.arrows for part in self.arrow(arrow)),
            *(self.box(box) for box in self.outline.boxes),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def frame(self, frame: str) -> str:
        (x, y), area = self.corners[f"frame {frame}"], self.areas[f"frame {frame}"]
        return (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{area.width:.1f}" height="{area.height:.1f}" rx="6" '
            f'fill="#000" fill-opacity="0.025" stroke="#c4c9ce"/>'
            f'<text class="frame" x="{x + 8:.1f}" y="{y + 15:.1f}">{escape(_last(frame, self.outline.frames))}</text>'
        )

    def box(self, box: Box) -> str:
        (x, y), size = self.corners[box.name], self.size(box.name)
        colour = COLOURS.get(box.title[:4].strip(), "#f2f2f2")
        middle = x + size.width / 2
        texts = [
            f'<text{" class=name" if number else ""} x="{middle:.1f}" y="{y + 16 + LINE * number:.1f}" '
            f'text-anchor="middle">{escape(line)}</text>'.replace("class=name", 'class="name"')
            for number, line in enumerate(_lines(box))
        ]
        return (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="4" '
            f'fill="{colour}" stroke="#8a949e"/>{"".join(texts)}'
        )

    def arrow(self, arrow: Arrow) -> Iterator[str]:
        (x, y), size = self.corners[arrow.source], self.size(arrow.source)
        (tx, ty), target = self.corners[arrow.target], self.size(arrow.target)
        x, y, tx = x + size.width / 2, y + size.height, tx + target.width / 2
        joins = sum(other.target == arrow.target for other in self.outline.arrows) > 1
        label = (x + 4, y + 13) if joins else (tx + 4, ty - 8)
        common = self.common(arrow)
        link = (self.item_of(arrow.source, common) or "", self.item_of(arrow.target, common) or "")
        columns = self.columns.get(link[0], 0), self.columns.get(link[1], 0)
        if columns[0] != columns[1]:
            parts = self.areas[f"frame {common}" if common else ""].parts
            gutter = min(self.corners[name][0] for name in parts if self.columns[name] == columns[1]) - LANE
            way = f"M{x:.1f} {y:.1f}V{y + 12:.1f}H{gutter:.1f}V{ty - 14:.1f}H{tx:.1f}V{ty - 2:.1f}"
        elif (side := self.lane(arrow, common, link)) is not None:
            way = f"M{x:.1f} {y:.1f}V{y + 9:.1f}H{side:.1f}V{ty - 14:.1f}H{tx:.1f}V{ty - 2:.1f}"
            label = (side + 4, (y + ty) / 2)
        elif abs(x - tx) < 1:
            way = f"M{x:.1f} {y:.1f}V{ty - 2:.1f}"
        else:
            turn = max(y, ty - 2 * ROW)  # straight down past the boxes beside it
            way = f"M{x:.1f} {y:.1f}V{turn:.1f}C{x:.1f} {turn + 24:.1f} {tx:.1f} {ty - 26:.1f} {tx:.1f} {ty - 2:.1f}"
        yield f'<path d="{way}" marker-end="url(#tip)"/>'
        yield f'<text class="shape" x="{label[0]:.1f}" y="{label[1]:.1f}">{escape(arrow.shape)}</text>'

    def lane(self, arrow: Arrow, common: str, link: tuple[str, str]) -> float | None:
        """Return where an arrow runs down beside the rows it skips: in the frame of both ends or the target's."""
        target_frame = self.boxes[arrow.target].frame
        enters = [(target_frame, (OUTSIDE, arrow.target))] if self.item_of(arrow.source, target_frame) is None else []
        for frame, wanted in ((common, link), *enters):
            area = self.areas[f"frame {frame}" if frame else ""]
            if wanted in area.lanes:
                left = self.corners.get(f"frame {frame}", (0.0, 0.0))[0]
                return left + area.width - PAD - LANE * (len(area.lanes) - area.lanes.index(wanted)) + LANE / 2
        return None

    def common(self, arrow: Arrow) -> str:
        """Return the innermost frame that contains both ends of an arrow."""
        first, second = (self.chains[self.boxes[name].frame] for name in (arrow.source, arrow.target))
        return [ancestor for ancestor, other in zip(first, second, strict=False) if ancestor == other][-1]


def _last(frame: str, frames: tuple[str, ...]) -> str:
    """Return a frame's name within the frame around it."""
    around = parent(frame, frames)
    return frame.removeprefix(f"{around}.") if around else frame


def _lines(box: Box) -> list[str]:
    short = box.name.removeprefix(f"{box.frame}.") if box.frame else box.name
    names = [short] if short not in (box.title, box.frame) else []
    return [box.title, *names, *([" · ".join(box.details)] if box.details else [])]
